"""Spellings of one variant score alike, to the last bit, and neighbors never become one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from toy_models import save_tiny_checkpoint, write_fasta, write_vcf

from gexpr.cli.main import main

Allele = tuple[int, str, str]


def repetitive(draw: np.random.Generator, length: int) -> str:
    """Bases with many repeats, in which an insertion or deletion has many places."""
    text = ""
    while len(text) < length:
        unit = "".join(draw.choice(list("ACGT"), int(draw.integers(1, 5))))
        text += unit * int(draw.integers(1, 7))
    return text[:length]


def apply(sequence: str, allele: Allele) -> str:
    start, ref, alt = allele
    assert sequence[start : start + len(ref)] == ref
    return sequence[:start] + alt + sequence[start + len(ref) :]


def spellings(sequence: str, allele: Allele, draw: np.random.Generator) -> list[Allele]:
    """Other alleles with at least one base each that make the same sequence: moved, and padded."""
    changed = apply(sequence, allele)
    start, ref, alt = allele
    found = []
    for _ in range(40):
        low = start - int(draw.integers(0, 12))
        high = start + len(ref) + int(draw.integers(0, 12))
        other = (low, sequence[low:high], changed[low : high + len(alt) - len(ref)])
        if other[1] and other[2] and other[1] != other[2]:
            found.append(other)
    size = len(ref) or len(alt)
    if not (ref and alt):
        for place in range(start - 25, start + 25):
            # The change at another place, spelled with the base before it.
            if ref:
                other = (place - 1, sequence[place - 1 : place + size], sequence[place - 1])
            else:
                moved = changed[place : place + size]
                other = (place - 1, sequence[place - 1], sequence[place - 1] + moved)
            if apply(sequence, other) == changed:
                found.append(other)
    return list(dict.fromkeys(found))


def drawn(sequence: str, draw: np.random.Generator) -> Allele:
    start = int(draw.integers(700, len(sequence) - 700))
    size = int(draw.integers(1, 7))
    kind = int(draw.integers(0, 4))
    bases = "".join(draw.choice(list("ACGT"), size))
    if kind == 0:
        return start, sequence[start : start + size], ""
    if kind == 1:
        # A copy of what follows: an insertion that can move.
        return start, "", sequence[start : start + size]
    if kind == 2:
        return start, "", bases
    return start, sequence[start : start + size], bases


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("equivalents")
    save_tiny_checkpoint(folder / "tiny")
    return folder


def score(folder: Path, vcf: Path, *extra: str) -> list[list[str]]:
    given = ["-c", str(folder / "tiny"), "-f", str(folder / "g.fa"), "--device", "cpu", "--batch-size", "5"]
    command = ["score-variants", *given, "--stats", "logFC,SAD,SAX,D2,JS", *extra, "-o", "-", str(vcf)]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 0, result.output
    return [line.split("\t") for line in result.stdout.splitlines()[1:]]


@pytest.mark.parametrize(
    "extra", [(), ("--indel-shifts", "3"), ("--max-offset", "bin"), ("--engine", "plain")]
)
@pytest.mark.parametrize("seed", [1, 2])
def test_every_spelling_of_a_variant_scores_the_same(folder, tmp_path, extra, seed):
    draw = np.random.default_rng(seed)
    sequence = repetitive(draw, 3000)
    write_fasta(folder / "g.fa", {"chr1": sequence})
    records, groups = [], []
    for number in range(12):
        allele = drawn(sequence, draw)
        if apply(sequence, allele) == sequence:
            continue
        others = spellings(sequence, allele, draw)
        assert len(others) > 3
        for index in draw.choice(len(others), min(6, len(others)), replace=False).tolist():
            low, ref, alt = others[index]
            name = f"v{number}.{index}"
            records.append(("chr1", low + 1, name, ref if index % 2 else ref.lower(), alt))
            groups.append(number)
    order = draw.permutation(len(records)).tolist()
    write_vcf(tmp_path / "v.vcf", [records[i] for i in order])
    rows = score(folder, tmp_path / "v.vcf", *extra)
    assert [(row[0], int(row[1]), *row[2:5]) for row in rows] == [records[i] for i in order]
    assert {row[5] for row in rows} == {"ok"}
    by_group: dict[int, set[tuple[str, ...]]] = {}
    for place, row in zip(order, rows, strict=True):
        by_group.setdefault(groups[place], set()).add(tuple(row[6:]))
    assert all(len(each) == 1 for each in by_group.values())
    assert len(set.union(*by_group.values())) > len(by_group) // 2


def test_neighboring_records_are_never_made_one(folder, tmp_path):
    """Two substitutions side by side, as records, are two rows; as one record they are another variant."""
    sequence = repetitive(np.random.default_rng(3), 3000)
    write_fasta(folder / "g.fa", {"chr1": sequence})
    at = 1500
    first, second = sequence[at], sequence[at + 1]
    a, b = ("ACGT"[("ACGT".index(each) + 1) % 4] for each in (first, second))
    apart = [("chr1", at + 1, "a", first, a), ("chr1", at + 2, "b", second, b)]
    write_vcf(tmp_path / "both.vcf", apart)
    both = score(folder, tmp_path / "both.vcf")
    for each, row in zip(apart, both, strict=True):
        write_vcf(tmp_path / "alone.vcf", [each])
        assert score(folder, tmp_path / "alone.vcf") == [row]
    write_vcf(tmp_path / "joined.vcf", [("chr1", at + 1, "ab", first + second, a + b)])
    (joined,) = score(folder, tmp_path / "joined.vcf")
    assert joined[6:] not in (both[0][6:], both[1][6:])
    padded = ("chr1", at, "p", sequence[at - 1] + first + second, sequence[at - 1] + a + b)
    write_vcf(tmp_path / "padded.vcf", [padded])
    assert score(folder, tmp_path / "padded.vcf")[0][6:] == joined[6:]
