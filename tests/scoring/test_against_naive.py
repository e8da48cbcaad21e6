"""Whole runs against a plain second computation: one variant at a time, base by base, two full passes.

Nothing of gexpr but the model's forward pass is used for what is expected: alleles are normalized
by the textbook algorithm with anchor bases, haplotypes are whole strings, windows are slices of
them, and every definition of docs/score-variants.md is written out in float64.
"""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
import pytest
import torch
from toy_models import write_fasta, write_vcf

from gexpr import checkpoints
from gexpr.models import registry
from gexpr.models.base import SequenceModel
from gexpr.results import Track
from gexpr.runs.common import ModelOptions
from gexpr.runs.score_variants import ScoreOptions, score_variants
from gexpr.scoring.definitions import STATISTICS, Mask

LENGTH, BIN, BINS = 512, 16, 24
FIRST = (LENGTH - BIN * BINS) // 2
POWER = "squashed:power,exponent=0.75,clip_soft=1.5"
SHIFTED = "squashed:shifted_power,exponent=0.5,clip_soft=0.3"
TRACKS = [
    Track(0, "plus", "plus", strand="+", strand_pair=1, scale=0.5, transform=POWER),
    Track(1, "minus", "minus", strand="-", strand_pair=0, scale=2.0, transform=POWER),
    Track(2, "both", "both", strand=".", strand_pair=2),
    Track(3, "shifted", "shifted", strand=".", strand_pair=3, transform=SHIFTED),
]
COMPLEMENT = {"A": "T", "C": "G", "G": "C", "T": "A", "N": "N"}


class Case(NamedTuple):
    chrom: str
    pos: int
    ref: str
    alts: str


# --- the second computation ------------------------------------------------------------------


def normal_form(sequence: str, pos: int, ref: str, alt: str) -> tuple[int, str, str]:
    """Tan et al. 2015: with anchor bases first, then without them; 0-based start."""
    start, ref, alt = pos - 1, ref.upper(), alt.upper()
    while True:
        if ref and alt and ref[-1] == alt[-1]:
            ref, alt = ref[:-1], alt[:-1]
        elif not (ref and alt) and start > 0:
            start -= 1
            ref, alt = sequence[start] + ref, sequence[start] + alt
            if ref[-1] != alt[-1]:
                break
        else:
            break
    while ref and alt and ref[0] == alt[0]:
        start, ref, alt = start + 1, ref[1:], alt[1:]
    return start, ref, alt


def cut(haplotype: str, start: int) -> str:
    return "".join(haplotype[i] if 0 <= i < len(haplotype) else "N" for i in range(start, start + LENGTH))


def forward(model: SequenceModel, window: str, reverse: bool) -> np.ndarray:
    """(bins, tracks) float64 in natural scale, bins from left to right on the + strand."""
    if reverse:
        window = "".join(COMPLEMENT[base] for base in reversed(window))
    one_hot = torch.zeros(1, LENGTH, 4)
    for i, base in enumerate(window):
        if base in "ACGT":
            one_hot[0, i, "ACGT".index(base)] = 1
    with torch.inference_mode():
        raw = model(one_hot)[0].double().numpy()
    natural = np.empty_like(raw)
    for b, track in itertools.product(range(BINS), TRACKS):
        natural[b, track.index] = unsquash(raw[b, track.index], track)
    if not reverse:
        return natural
    turned = np.empty_like(natural)
    for b, track in itertools.product(range(BINS), TRACKS):
        turned[b, track.index] = natural[BINS - 1 - b, track.strand_pair]
    return turned


def unsquash(value: float, track: Track) -> float:
    if track.transform == POWER:
        value /= track.scale
        if value > 1.5:
            value = 1.5 + (value - 1.5) ** 2
        return value ** (1 / 0.75)
    if track.transform == SHIFTED:
        if value > 0.3:
            value = 0.3 - 1 + (value - 0.3 + 1) ** 2
        return (value + 1) ** 2 - 1
    return value


def on_reference_bins(
    alternate: np.ndarray, origin: int, start: int, ref: str, alt: str
) -> tuple[np.ndarray, list[bool]]:
    """Per base, then back to bins; and which bins the alternate covers."""
    if len(ref) == len(alt):
        return alternate, [True] * BINS

    def per_base(q: int) -> np.ndarray | None:
        index = (q - origin) // BIN
        return alternate[index] / BIN if 0 <= index < BINS else None

    grown = len(alt) - len(ref)
    matched = start + min(len(ref), len(alt))
    bins, covered = np.zeros_like(alternate), []
    for b in range(BINS):
        values = []
        for p in range(origin + b * BIN, origin + (b + 1) * BIN):
            if grown > 0 and p == matched - 1:
                several = [per_base(q) for q in range(p, p + grown + 1)]
                complete = all(each is not None for each in several)
                values.append(np.max(several, axis=0) if complete else None)
            elif p < matched:
                values.append(per_base(p))
            elif p < start + len(ref):
                values.append(np.zeros(len(TRACKS)))
            else:
                values.append(per_base(p + grown))
        covered.append(all(value is not None for value in values))
        if covered[-1]:
            bins[b] = np.sum(values, axis=0)
    return bins, covered


def statistic(name: str, r: np.ndarray, a: np.ndarray, c: float) -> float:
    """One number from two vectors of bins."""
    d = a - r
    if name == "JS":
        p, q = ((x + 1e-6) / (x + 1e-6).sum() for x in (r, a))
        m = (p + q) / 2
        return sum(float((x * np.log2(x / m)).sum()) / 2 for x in (p, q))
    return {
        "logFC": lambda: math.log2(a.sum() + c) - math.log2(r.sum() + c),
        "SAD": lambda: a.sum() - r.sum(),
        "logSAD": lambda: np.log2(a + 1).sum() - np.log2(r + 1).sum(),
        "sqrtSAD": lambda: np.sqrt(a).sum() - np.sqrt(r).sum(),
        "SAX": lambda: d[np.argmax(np.abs(d))],
        "D1": lambda: np.abs(d).sum(),
        "D2": lambda: math.sqrt((d**2).sum()),
        "logD2": lambda: math.sqrt(((np.log2(a + 1) - np.log2(r + 1)) ** 2).sum()),
        "ACTIVE_SUM": lambda: max(a.sum(), r.sum()),
    }[name]()


def naive(
    model: SequenceModel,
    sequence: str,
    case: tuple[int, str, str],
    *,
    rc: bool,
    shifts: tuple[int, ...],
    distance: int | None,
    average: str,
    c: float,
) -> dict[str, np.ndarray]:
    """Statistic -> (tracks,) of one allele."""
    sequence = sequence.upper()
    start, ref, alt = normal_form(sequence, *case)
    assert sequence[start : start + len(ref)] == ref
    changed = sequence[:start] + alt + sequence[start + len(ref) :]
    pairs, kept = [], [True] * BINS
    for shift, reverse in itertools.product(shifts, (False, True) if rc else (False,)):
        left = start - LENGTH // 2 + shift
        r = forward(model, cut(sequence, left), reverse)
        a = forward(model, cut(changed, left), reverse)
        a, covered = on_reference_bins(a, left + FIRST, start, ref, alt)
        kept = [x and y for x, y in zip(kept, covered, strict=True)]
        pairs.append((r, a))
    if distance is not None:
        near = set(range(start, start + len(ref))) if ref else {start - 1, start}
        origin = start - LENGTH // 2 + FIRST
        for b in range(BINS):
            bases = range(origin + b * BIN, origin + (b + 1) * BIN)
            kept[b] &= min(abs(p - q) for p in bases for q in near) <= distance
    if average == "predictions":
        pairs = [tuple(np.mean(each, axis=0) for each in zip(*pairs, strict=True))]
    return {
        name: np.mean(
            [[statistic(name, r[kept, t], a[kept, t], c) for t in range(len(TRACKS))] for r, a in pairs],
            axis=0,
        )
        for name in STATISTICS
    }


# --- the runs ---------------------------------------------------------------------------------


def other(base: str, step: int = 1) -> str:
    return "ACGT"[("ACGT".index(base.upper()) + step) % 4]


def flip_all(bases: str) -> str:
    return "".join(map(other, bases))


@pytest.fixture(scope="module")
def contigs() -> dict[str, str]:
    rng = np.random.default_rng(29)
    long = "".join(rng.choice(list("ACGT"), 1600))
    # A repeat to move indels in, lower case, and unknown bases inside several windows.
    long = long[:700] + "CACACACACACA" + "G" + long[713:900] + long[900:1000].lower() + long[1000:]
    long = long[:1250] + "NNNNN" + long[1255:]
    return {"chr1": long, "chr2": "".join(rng.choice(list("ACGT"), 90))}


@pytest.fixture(scope="module")
def cases(contigs: dict[str, str]) -> list[Case]:
    s, t = contigs["chr1"], contigs["chr2"]
    insert = "GATTACAGATTACAGGTTCCATTGAC"  # 26 bases: more than one bin, not a multiple of one
    return [
        Case("chr1", 401, s[400], other(s[400])),
        Case("chr1", 402, s[401], ",".join(other(s[401], i) for i in (1, 2, 3))),  # every base
        Case("chr1", 1, s[0], other(s[0])),  # the contig's ends
        Case("chr1", 1600, s[1599], other(s[1599])),
        Case("chr1", 1, s[:3], s[2]),
        Case("chr1", 1598, s[1597:1600], s[1597]),
        Case("chr1", 1600, s[1599], s[1599] + "TTG"),
        Case("chr1", 1, s[0], "GC" + s[0]),  # before the first base
        Case("chr1", 951, s[950].upper(), other(s[950]).lower()),  # lower case in the FASTA and in ALT
        Case("chr1", 961, s[960:963], s[960]),
        Case("chr1", 501, s[500:504], flip_all(s[500:504])),  # several bases for as many
        Case("chr1", 511, s[510:540], flip_all(s[510:540])),
        Case("chr1", 601, s[600], s[600] + "T"),  # insertions of odd and even lengths
        Case("chr1", 601, s[600], s[600] + insert),
        Case("chr1", 650, s[649], s[649] + "ACGTTGCAACGTTGCA"),  # exactly one bin
        Case("chr1", 651, s[650:652], s[650]),  # deletions
        Case("chr1", 651, s[650:678], s[650]),
        Case("chr1", 660, s[659:676], s[659]),
        Case("chr1", 706, s[705:708], s[705]),  # in the repeat, to be moved left
        Case("chr1", 708, s[707], s[707] + "CACA" if s[707] == "A" else s[707] + "ACAC"),
        Case("chr1", 801, s[800:803], flip_all(s[800:803]) + "GGATC"),  # complex: longer
        Case("chr1", 811, s[810:840], flip_all(s[810:813])),  # complex: shorter
        Case("chr1", 1240, s[1239], other(s[1239])),  # N within the window
        Case("chr1", 1101, s[1100:1103], f"{s[1100]},{s[1100:1103]}TT,{other(s[1100])}{s[1101:1103]}"),
        Case("chr2", 45, t[44], other(t[44])),  # a contig shorter than the window
        Case("chr2", 46, t[45:50], t[45]),
        Case("chr1", 401, s[400], other(s[400], 2)),  # a position that came before
    ]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, SequenceModel]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(17)
        built = registry.build(
            "sparse_enformer",
            dict(
                context_length=LENGTH,
                target_length=BINS,
                heads={"tracks": len(TRACKS)},
                channels=16,
                num_downsamples=4,
                divisible_by=8,
                depth=1,
                attention_heads=2,
                key_size=8,
                positions="rotary",
                block_size=4,
                random_blocks=1,
            ),
        )
        for parameter in built.parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=1.3 * parameter[0].numel() ** -0.5)
    folder = checkpoints.save(tmp_path_factory.mktemp("naive") / "net", built, TRACKS, {}, "For tests.")
    return str(folder), checkpoints.load(folder)


SETTINGS = {
    "as it comes": dict(rc=True, shifts=(0,), distance=None, average="predictions", c=1.0),
    "one strand": dict(rc=False, shifts=(0,), distance=None, average="predictions", c=0.25),
    "shifts": dict(rc=True, shifts=(-1, 0, 1), distance=None, average="predictions", c=1.0),
    "one-sided shifts": dict(rc=False, shifts=(5, 11), distance=None, average="predictions", c=1.0),
    "center": dict(rc=True, shifts=(0,), distance=100, average="predictions", c=1.0),
    "own bin": dict(rc=True, shifts=(0,), distance=0, average="predictions", c=1.0),
    "scores": dict(rc=True, shifts=(-3, 2), distance=40, average="scores", c=1.0),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_every_statistic_of_every_kind_of_variant(
    name: str, contigs: dict[str, str], cases: list[Case], model, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setenv("GEXPR_CACHE", str(tmp_path / "cache"))
    settings = SETTINGS[name]
    fasta = write_fasta(tmp_path / "g.fa", contigs)
    vcf = write_vcf(tmp_path / "v.vcf", [(case.chrom, case.pos, ".", case.ref, case.alts) for case in cases])
    path, network = model
    options = ScoreOptions(
        model=ModelOptions(
            path,
            reverse_complement=settings["rc"],
            shifts=settings["shifts"],
            batch_size=5,
            device="cpu",
        ),
        statistics=tuple(STATISTICS),
        pseudocount=settings["c"],
        mask=Mask(settings["distance"]),
        average=settings["average"],
    )
    score_variants(str(vcf), str(fasta), str(tmp_path / "a.h5"), options)
    alleles = [(case, alt) for case in cases for alt in case.alts.split(",")]
    with h5py.File(tmp_path / "a.h5") as file:
        assert set(file["status"].asstr()[:]) == {"ok"}
        found = {each: file[each][:] for each in STATISTICS}
    assert all(len(values) == len(alleles) for values in found.values())
    for row, (case, alt) in enumerate(alleles):
        expected = naive(network, contigs[case.chrom], (case.pos, case.ref, alt), **settings)
        for each in STATISTICS:
            scale = max(1.0, float(np.abs(expected["ACTIVE_SUM"]).max()) / 10)
            difference = np.abs(found[each][row] - expected[each]).max()
            assert difference < 1e-5 * scale, (each, case, alt, found[each][row], expected[each])
    assert np.abs(found["logFC"]).max() > 0.01


def test_the_settings_above_bend_every_curve(model, contigs: dict[str, str]) -> None:
    """Predictions lie on both sides of both soft clips, or the inverses would not be tested."""
    _, network = model
    one_hot = torch.nn.functional.one_hot(
        torch.tensor(["ACGT".index(base) for base in contigs["chr1"][:LENGTH]]), 4
    )
    with torch.inference_mode():
        raw = network(one_hot[None].float())[0]
    for column, clip in ((0, 1.5 * 0.5), (3, 0.3)):
        assert (raw[:, column] < clip).any() and (raw[:, column] > clip).any()
