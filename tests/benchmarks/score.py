"""Seconds a variant: gexpr's engines beside two forward passes of enformer-pytorch with the same weights.

Real variants and genome of the packaged example (chromosome I of yeast). Each case names its window rule:

one         one variant a window, each in the middle of its own
eight       eight variants that share a window (fixed grid)
saturation  all SNVs of some neighboring bases (fixed grid)
kilobase    one variant a kilobase, windows on the bin grid, tokens of the trunk shared along the genome

Runs of all programs alternate; medians are printed, and the ratio to the peer (or, without one, to gexpr's
plain engine). The floor is the run's floating-point operations at the speed of a matrix product. Example::

    python tests/benchmarks/score.py --model enformer --repeats 1 --json score.json
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
from gexpr.scoring.predictor import Predictor
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
        predictor = Predictor(model, batch_size=batch_size, reverse_complement=False, tracks=range(4))
        windows = FastaWindows(genome)
        scorer = VariantScorer(predictor, windows, window_rule=case.rule, engine=engine)
        return scorer.score(case.variants)["logFC"]

    return score


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
    parser.add_argument("--json")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    genome = Fasta(resolve_fasta("example"))
    peer: Callable[[], Any] | None = None
    model: SequenceModel
    if options.model == "enformer":
        model = peers.drawn_enformer(
            context_length=options.length, target_length=min(896, options.length // 256)
        )
        model.tracks = [Track(i, f"t{i}", f"t{i}") for i in range(sum(model.config.heads.values()))]
        twin = peers.enformer_pytorch_twin(model)  # type: ignore[arg-type]
        one_hot = torch.eye(4)[torch.randint(0, 4, (1, options.length))]

        def two_passes() -> None:
            with torch.inference_mode():
                for _ in range(2):
                    twin(one_hot, head="human")

        peer = two_passes
    else:
        model = checkpoints.load(options.model)

    speed = matrix_speed(torch.device("cpu"))
    rows = []
    print("case\twindow rule\tvariants\tprogram\tseconds a variant\tratio\tshare of floor")
    for case in cases(genome, options.scale):
        if case.name not in options.cases.split(","):
            continue
        programs = {"gexpr incremental": run(model, genome, case, "incremental", options.batch_size)}
        if not options.no_plain:
            programs["gexpr plain"] = run(model, genome, case, "plain", options.batch_size)
        with FlopCounterMode(display=False) as counter:
            first = programs["gexpr incremental"]()
        operations = counter.get_total_flops()
        times: dict[str, list[float]] = {name: [] for name in programs}
        theirs: list[float] = []
        for _ in range(options.repeats):
            for name, program in programs.items():
                seconds, scores = peers.timed(program)
                times[name].append(seconds / len(case.variants))
                assert abs(scores - first).max() < 2e-5, f"{name} differs"
            if peer is not None:
                theirs.append(peers.timed(peer)[0])
        if theirs:
            times["enformer-pytorch, two passes"] = theirs
        base = peers.median(theirs or times.get("gexpr plain", times["gexpr incremental"]))
        for name, found in times.items():
            median = peers.median(found)
            floor = operations / speed / len(case.variants)
            share = f"{floor / median:.0%}" if name == "gexpr incremental" else ""
            rule = "centered" if case.rule == CENTERED else f"--max-offset {case.rule}"
            columns = (
                case.name,
                rule,
                len(case.variants),
                name,
                f"{median:.3f}",
                f"{base / median:.2f}",
                share,
            )
            print(*columns, sep="\t", flush=True)
            rows.append(
                {
                    "case": case.name,
                    "rule": str(case.rule),
                    "variants": len(case.variants),
                    "program": name,
                    "seconds": found,
                    "operations": operations,
                }
            )
    record = {"model": options.model, "rows": rows, "matrix_speed": speed, "machine": peers.machine()}
    peers.write_json(options.json, record)


if __name__ == "__main__":
    main()
