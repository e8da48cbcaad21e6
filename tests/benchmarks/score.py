"""Seconds a variant: gexpr's engines beside enformer-pytorch and tangermeme, with the same weights.

Real variants and genome of the packaged example (chromosome I of yeast). Each case names its window rule:

one         one variant a window, each in the middle of its own
eight       eight variants that share a window (fixed grid)
saturation  all SNVs of some neighboring bases (fixed grid)
kilobase    one variant a kilobase, windows on the bin grid, tokens of the trunk shared along the genome

Peers score the same variants in the same windows, the reference and the alternate in full: enformer-pytorch
in two forward passes of its own model (for ``--model enformer``), tangermeme with ``substitution_effect`` on
that model, or on gexpr's where there is no other: ``--peer-variants`` of each case, since a peer's time does
not depend on what the variants share. Runs of all programs alternate; medians are printed, the ratio to the
first peer (or, without one, to gexpr's plain engine), and the largest difference of a score from the peer's.
The floor is the run's floating-point operations at the speed of a matrix product. Example::

    python tests/benchmarks/score.py --model enformer --repeats 1 --no-plain --json score.json
    python tests/benchmarks/score.py --model yeast-tss --repeats 3
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parent))

import peers
import torch
from torch.utils.flop_counter import FlopCounterMode

from gexpr import checkpoints
from gexpr.genome.contigs import ContigMap
from gexpr.genome.examples import resolve_fasta, resolve_vcf
from gexpr.genome.fasta import Fasta
from gexpr.genome.windows import CENTERED, WindowRule
from gexpr.models.base import SequenceModel
from gexpr.results import Track, Variant
from gexpr.scoring.cost import matrix_speed
from gexpr.scoring.engine import FastaWindows, VariantScorer
from gexpr.scoring.predictor import Predictor, model_tracks
from gexpr.scoring.transforms import NaturalScale
from gexpr.variants.alleles import AlleleReader
from gexpr.variants.vcf import open_vcf


class Case(NamedTuple):
    """Variants and the window rule under which they are scored."""

    name: str
    variants: list[Variant]
    rule: WindowRule


def snv(genome: Fasta, contig: str, position: int, row: int, step: int = 1) -> Variant:
    """An SNV at a position of the genome."""
    ref = genome.fetch(contig, position, position + 1)
    alt = "ACGT"[("ACGT".index(ref) + step) % 4]
    return Variant(row, row + 1, contig, position + 1, ".", ref, alt, "ok", contig, position, ref, alt)


def cases(genome: Fasta, scale: int) -> list[Case]:
    """The cases; ``scale`` multiplies the number of variants."""
    reader = AlleleReader(genome, ContigMap(genome.names))
    real = [v for record in open_vcf(resolve_vcf("example")).records() for v in reader.split(record, 0)]
    snvs = {v.start: v for v in real if v.ok and len(v.norm_ref) == len(v.norm_alt) == 1}
    contig, places = genome.names[0], sorted(snvs)
    apart = [snvs[place] for place in places[:: max(1, len(places) // (2 * scale))]][: 2 * scale]
    near = [snvs[place] for place in places if abs(place - places[0]) < 4000][: 8 * scale]
    saturated = [
        snv(genome, contig, places[0] + number // 3, number, number % 3 + 1) for number in range(24 * scale)
    ]
    spaced = [snv(genome, contig, 100_000 + 1000 * number, number) for number in range(4 * scale)]
    return [
        Case("one", apart, CENTERED),
        Case("eight", near, WindowRule(4096)),
        Case("saturation", saturated, WindowRule(4096)),
        Case("kilobase", spaced, WindowRule("bin")),
    ]


def run(
    model: SequenceModel, genome: Fasta, case: Case, engine: str, batch_size: int | None
) -> Callable[[], Any]:
    """A function that scores the case once, from nothing kept."""

    def score() -> Any:
        predictor = Predictor(model, batch_size=batch_size, reverse_complement=False, tracks=TRACKS)
        windows = FastaWindows(genome)
        scorer = VariantScorer(predictor, windows, window_rule=case.rule, engine=engine)
        return scorer.score(case.variants)["logFC"]

    return score


def run_peer(
    predict: Callable[[torch.Tensor], torch.Tensor],
    genome: Fasta,
    model: SequenceModel,
    case: Case,
    count: int,
) -> Callable[[], Any]:
    """A function that scores some variants of the case with ``predict``, (1, L, 4) to (1, bins, tracks)."""
    windows = FastaWindows(genome)
    length, eye = model.context_length, torch.eye(5)[:, :4]

    def score() -> Any:
        found = []
        for variant in case.variants[:count]:
            start = case.rule.window_start(variant.start, length, model.bin_size)
            pair = [fetch(variant, length, start) for fetch in (windows.reference, windows.alternate)]
            with torch.inference_mode():
                both = [predict(eye[torch.from_numpy(codes).long()][None]) for codes in pair]
            found.append(effect(model, *both))
        return torch.cat(found).numpy()

    return score


def run_tangermeme(
    model: torch.nn.Module, genome: Fasta, own: SequenceModel, case: Case, count: int, batch_size: int
) -> Callable[[], Any] | None:
    """A function that scores some variants with tangermeme; None where it is not installed."""
    try:
        from tangermeme.variant_effect import substitution_effect
    except ImportError:
        return None
    windows, length = FastaWindows(genome), own.context_length
    eye = torch.eye(5)[:, :4]

    def score() -> Any:
        codes, edits = [], []
        for row, variant in enumerate(case.variants[:count]):
            start = case.rule.window_start(variant.start, length, own.bin_size)
            codes.append(torch.from_numpy(windows.reference(variant, length, start)).long())
            edits.append([row, variant.start - start, "ACGT".index(variant.norm_alt)])
        one_hot = eye[torch.stack(codes)].transpose(1, 2).contiguous()
        result = substitution_effect(model, one_hot, torch.tensor(edits), batch_size=batch_size, device="cpu")
        return effect(own, result[0], result[1]).numpy()

    return score


def effect(model: SequenceModel, reference: torch.Tensor, alternate: torch.Tensor) -> torch.Tensor:
    """log2 fold change of the sums over bins: (n, bins, tracks) twice to (n, tracks)."""
    natural = NaturalScale(model_tracks(model)[: len(TRACKS)])
    reference, alternate = natural(reference), natural(alternate)
    return torch.log2(alternate.sum(1) + 1) - torch.log2(reference.sum(1) + 1)


class ChannelsFirst(torch.nn.Module):
    """A model for tangermeme: (n, 4, L) to (n, bins, tracks), the first tracks of a head."""

    def __init__(self, model: torch.nn.Module, head: str) -> None:
        super().__init__()
        self.model = model
        self.head = head

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        predictions: torch.Tensor = self.model(x.transpose(1, 2), head=self.head)
        return predictions[..., : len(TRACKS)]


TRACKS = range(4)
"""Tracks that are scored."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="yeast-tss", help="yeast-tss or another checkpoint, or enformer")
    parser.add_argument("--length", type=int, default=196_608, help="context of enformer")
    parser.add_argument("--cases", default="one,eight,saturation,kilobase")
    parser.add_argument("--scale", type=int, default=1, help="multiplies the number of variants")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--no-plain", action="store_true", help="leave gexpr's plain engine out")
    parser.add_argument("--no-tangermeme", action="store_true", help="leave tangermeme out")
    parser.add_argument("--peer-variants", type=int, default=1)
    parser.add_argument("--json")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    genome = Fasta(resolve_fasta("example"))
    twin: torch.nn.Module | None = None
    model: SequenceModel
    if options.model == "enformer":
        model = peers.drawn_enformer(
            context_length=options.length, target_length=min(896, options.length // 256)
        )
        model.tracks = [Track(i, f"t{i}", f"t{i}") for i in range(sum(model.config.heads.values()))]
        twin = peers.enformer_pytorch_twin(model)  # type: ignore[arg-type]
    else:
        model = checkpoints.load(options.model).eval()
    head = model.head_name()
    theirs = ChannelsFirst(twin or model, head)

    def whole(x: torch.Tensor) -> torch.Tensor:
        return theirs(x.transpose(1, 2))

    speed = matrix_speed(torch.device("cpu"))
    rows = []
    print(
        "case\twindow rule\tvariants\tprogram\tseconds a variant\tratio\tshare of floor\tdifference",
        flush=True,
    )
    for case in cases(genome, options.scale):
        if case.name not in options.cases.split(","):
            continue
        count = min(options.peer_variants, len(case.variants))
        programs: dict[str, tuple[int, Callable[[], Any]]] = {}
        if twin is not None:
            programs["enformer-pytorch"] = count, run_peer(whole, genome, model, case, count)
        batch = 1 if twin is not None else 8
        tangermeme = run_tangermeme(theirs, genome, model, case, count, batch)
        if tangermeme is not None and not options.no_tangermeme:
            programs["tangermeme"] = count, tangermeme
        if not options.no_plain:
            programs["gexpr plain"] = (
                len(case.variants),
                run(model, genome, case, "plain", options.batch_size),
            )
        incremental = run(model, genome, case, "incremental", options.batch_size)
        programs["gexpr incremental"] = len(case.variants), incremental
        operations = None
        times: dict[str, list[float]] = {name: [] for name in programs}
        scores: dict[str, Any] = {}
        for _ in range(options.repeats):
            for name, (number, program) in programs.items():
                if operations is None and program is incremental:
                    # Counting takes some milliseconds a pass, and a run of its own minutes.
                    with FlopCounterMode(display=False) as counter:
                        seconds, scores[name] = peers.timed(program)
                    operations = counter.get_total_flops()
                else:
                    seconds, scores[name] = peers.timed(program)
                times[name].append(seconds / number)
        base_name = next(iter(programs))
        base = peers.median(times[base_name])
        rule = "centered" if case.rule == CENTERED else f"--max-offset {case.rule}"
        for name, (number, _) in programs.items():
            median = peers.median(times[name])
            assert operations is not None
            floor = operations / speed / len(case.variants)
            share = f"{floor / median:.0%}" if program_is_ours(name) else ""
            compared = min(number, programs[base_name][0])
            difference = float(abs(scores[name][:compared] - scores[base_name][:compared]).max())
            columns = case.name, rule, number, name, f"{median:.3f}", f"{base / median:.2f}", share
            print(*columns, f"{difference:.1e}", sep="\t", flush=True)
            rows.append(
                {
                    "case": case.name,
                    "rule": str(case.rule),
                    "variants": number,
                    "program": name,
                    "seconds": times[name],
                    "ratio": base / median,
                    "difference": difference,
                    "operations": operations,
                }
            )
    record = {"model": options.model, "rows": rows, "matrix_speed": speed, "machine": peers.machine()}
    peers.write_json(options.json, record)


def program_is_ours(name: str) -> bool:
    """Whether the operations were counted for this program."""
    return name == "gexpr incremental"


if __name__ == "__main__":
    main()
