"""Scoring on a CUDA device: variants a second, share of the device's speed, and what each precision costs.

Two models with drawn weights: ``enformer`` (196,608 bp) and ``sparse`` (sparse_enformer of 1,048,576 bp,
rotary positions), on a drawn genome. Each row is one precision, compiled or not, and one batch size:

shared    20 SNVs a window, windows on a fixed grid (``--max-offset``)
single    one SNV a window, each in the middle of its own

Printed are variants a second from variants to scores, all work of the host included; how many operations that
is (counted in the uncompiled run), and its share of the speed of a matrix product in the same precision on
the same device; how many times faster that is than two eager passes a variant (reference and alternate, in
turn with the runs, same precision); the largest memory that PyTorch held; correlation and error of logFC
against fp32. Effects in drawn models are weak, so that these errors are large; ``precision.py --device cuda``
measures those of a trained model. Then the long model runs with the memory limited to 16 GiB. ``--compile
best`` compiles, for each precision, at the batch size that was fastest. One strand, one pass. Examples::

    python tests/benchmarks/gpu.py --json gpu.json
    python tests/benchmarks/gpu.py --models enformer --precisions fp32,fp16 --batch-sizes 16
    python tests/benchmarks/gpu.py --device cpu --small          # tries this script; the numbers mean nothing
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
import peers
import torch
from numpy.typing import NDArray
from precision import errors, snv
from torch.utils.flop_counter import FlopCounterMode

from gexpr.genome.fasta import Fasta
from gexpr.genome.windows import CENTERED, WindowRule
from gexpr.models.base import SequenceModel, parameter_count
from gexpr.results import Variant
from gexpr.scoring.definitions import PRECISIONS
from gexpr.scoring.devices import device_kind, numeric_precision, resolve_device
from gexpr.scoring.engine import FastaWindows, VariantScorer
from gexpr.scoring.predictor import Predictor

GIB = 2**30
LIMIT_GIB = 16
SHARED = 20
"""Variants a window of the case ``shared``."""

SMALL_ENFORMER: dict[str, Any] = dict(
    context_length=4096,
    target_length=24,
    heads={"human": 6},
    channels=48,
    divisible_by=8,
    depth=2,
    attention_heads=4,
    key_size=8,
)
SMALL_SPARSE: dict[str, Any] = {**SMALL_ENFORMER, "context_length": 8192, "block_size": 8, "random_blocks": 1}
LONG_SPARSE: dict[str, Any] = dict(context_length=2**20, target_length=7552)
"""Enformer's 320 bins cropped on each side."""


class Case(NamedTuple):
    """Variants and the rule for their windows."""

    name: str
    variants: list[Variant]
    rule: WindowRule


def build(name: str, small: bool) -> SequenceModel:
    """The model with drawn weights."""
    if name == "enformer":
        return peers.drawn_enformer(**(SMALL_ENFORMER if small else {}))
    return peers.drawn_sparse_enformer(positions="rotary", **(SMALL_SPARSE if small else LONG_SPARSE))


def drawn_genome(folder: str, bases: int) -> Fasta:
    """A contig of random bases."""
    letters = np.frombuffer(b"ACGT", dtype=np.uint8)[np.random.default_rng(1).integers(0, 4, bases)]
    text = letters.tobytes().decode()
    path = Path(folder) / "drawn.fa"
    path.write_text(">chr1\n" + "\n".join(text[at : at + 60] for at in range(0, bases, 60)) + "\n")
    return Fasta(str(path), folder)


def cases(genome: Fasta, model: SequenceModel, windows: int) -> list[Case]:
    """Both cases: ``windows`` windows with 20 variants each, and as many variants alone."""
    step = 16 * model.bin_size
    rule = WindowRule(step // 2)
    # The first whole step of the grid whose window lies on the contig.
    first = (model.context_length // 2 // step + 1) * step
    spread = step // (SHARED + 1)
    # Grid windows are those whose middle is nearest: variants within half a step of it share one.
    shared = [
        snv(genome, "chr1", first + number * step - step // 2 + (place + 1) * spread, row, row % 3 + 1)
        for row, (number, place) in enumerate((n, p) for n in range(windows) for p in range(SHARED))
    ]
    single = [
        snv(genome, "chr1", first + number * step + 7 * number % 101, number, number % 3 + 1)
        for number in range(2 * windows)
    ]
    return [Case("shared", shared, rule), Case("single", single, CENTERED)]


def synchronize(device: torch.device) -> None:
    """Wait until the device has done all its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(function: Callable[[], Any], device: torch.device) -> float:
    """Seconds of a call, the device's work included."""
    synchronize(device)
    started = time.perf_counter()
    function()
    synchronize(device)
    return time.perf_counter() - started


def matrix_rate(device: torch.device, precision: str, repeats: int = 10) -> float:
    """Operations a second of a square matrix product in a precision: the median of some."""
    size = 8192 if device.type == "cuda" else 256
    dtype = {"fp16": torch.float16, "bf16": torch.bfloat16}.get(precision, torch.float32)
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    with torch.inference_mode(), numeric_precision(precision, device):
        for _ in range(3):
            left @ right
        times = [seconds(lambda: left @ right, device) for _ in range(repeats)]
    return 2 * size**3 / peers.median(times)


def start_memory(device: torch.device) -> None:
    """Forget what was held, and count from here."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory(device: torch.device) -> float:
    """GiB that PyTorch held of the device since; NaN on a CPU."""
    return torch.cuda.max_memory_reserved(device) / GIB if device.type == "cuda" else float("nan")


class Bench:
    """One model on one device.

    Args:
        name: of the model.
        model: it.
        genome: from which windows come.
        device: where to run.
        tracks: how many tracks to score.
        repeats: runs that are timed.
    """

    def __init__(
        self,
        name: str,
        model: SequenceModel,
        genome: Fasta,
        device: torch.device,
        tracks: int,
        repeats: int,
    ) -> None:
        self.name = name
        self.model = model.to(device).eval()
        self.genome = genome
        self.device = device
        self.tracks = list(range(min(tracks, next(iter(model.config.heads.values())))))
        self.repeats = repeats
        self.rates: dict[str, float] = {}
        """Operations a second of a matrix product, by precision."""
        self._expected: dict[str, NDArray[np.float32]] = {}
        self._operations: dict[tuple[str, int], int] = {}

    def program(
        self, case: Case, precision: str, compiled: bool, batch_size: int
    ) -> Callable[[], NDArray[np.float32]]:
        """A function that scores a case; the predictor is made once, as a run makes it."""
        predictor = Predictor(
            self.model,
            tracks=self.tracks,
            device=self.device,
            batch_size=batch_size,
            reverse_complement=False,
            precision=precision,
            compile=compiled,
        )

        def score() -> NDArray[np.float32]:
            # A new scorer, which has kept nothing of the genome.
            scorer = VariantScorer(predictor, FastaWindows(self.genome), window_rule=case.rule)
            assert scorer.engine == "incremental"
            return scorer.score(case.variants)["logFC"]

        return score

    def two_passes(self, precision: str) -> Callable[[], Any]:
        """Reference and alternate, one after the other, through the model as it is."""
        codes = torch.randint(0, 4, (1, self.model.context_length), device=self.device)
        one_hot = torch.nn.functional.one_hot(codes, 4).float()

        def run() -> None:
            with torch.inference_mode(), numeric_precision(precision, self.device):
                for _ in range(2):
                    self.model(one_hot)

        return run

    def expected(self, case: Case, batch_size: int) -> NDArray[np.float32]:
        """Scores in fp32, not compiled."""
        if case.name not in self._expected:
            self._expected[case.name] = self.program(case, "fp32", False, batch_size)()
        return self._expected[case.name]

    def operations(self, case: Case, batch_size: int) -> int:
        """Floating-point operations of a run, those for filling up batches included."""
        key = case.name, batch_size
        if key not in self._operations:
            program = self.program(case, "fp32", False, batch_size)
            attention = [block.attention for block in getattr(self.model, "transformer", [])]
            before = [each.implementation for each in attention]
            try:
                for each in attention:
                    # FlexAttention's kernels hide what they do from the counter.
                    each.implementation = "block_sparse"
                with FlopCounterMode(display=False) as counter:
                    program()
            finally:
                for each, implementation in zip(attention, before, strict=True):
                    each.implementation = implementation
            self._operations[key] = counter.get_total_flops()
        return self._operations[key]

    def row(self, case: Case, precision: str, compiled: bool, batch_size: int) -> dict[str, Any]:
        """One row of the table."""
        about = {
            "model": self.name,
            "case": case.name,
            "precision": precision,
            "compiled": compiled,
            "batch_size": batch_size,
            "variants": len(case.variants),
        }
        if precision not in self.rates:
            self.rates[precision] = matrix_rate(self.device, precision)
        try:
            expected = self.expected(case, batch_size)
            operations = self.operations(case, batch_size)
            start_memory(self.device)
            program, passes = self.program(case, precision, compiled, batch_size), self.two_passes(precision)
            found: list[NDArray[np.float32]] = []
            first = seconds(lambda: found.append(program()), self.device)
            memory = peak_memory(self.device)
            passes()
            ours, theirs = [], []
            for _ in range(self.repeats):
                ours.append(seconds(program, self.device))
                theirs.append(seconds(passes, self.device))
        except torch.OutOfMemoryError as error:
            return {**about, "error": str(error).splitlines()[0]}
        except Exception as error:  # one row that fails must not cost the others
            return {**about, "error": f"{type(error).__name__}: {str(error).splitlines()[0]}"}
        taken = peers.median(ours)
        return {
            **about,
            "seconds": ours,
            "first_seconds": first,
            "two_passes_seconds": theirs,
            "variants_per_second": len(case.variants) / taken,
            "operations": operations,
            "tflops": operations / taken / 1e12,
            "share_of_matrix_rate": operations / taken / self.rates[precision],
            "times_two_passes": peers.median(theirs) * len(case.variants) / taken,
            "peak_gib": memory,
            **errors(found[0], expected),
        }

    def within(self, case: Case, precision: str, gib: float) -> dict[str, Any]:
        """Whether a case can be scored with so much memory of the device, one sequence a batch."""
        about = {"model": self.name, "precision": precision, "limit_gib": gib}
        total = torch.cuda.get_device_properties(self.device).total_memory
        start_memory(self.device)
        torch.cuda.set_per_process_memory_fraction(min(1.0, gib * GIB / total), self.device)
        try:
            self.program(case, precision, False, 1)()
            return {**about, "fits": True, "peak_gib": peak_memory(self.device)}
        except Exception as error:
            return {**about, "fits": False, "error": str(error).splitlines()[0]}
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0, self.device)


COLUMNS = (
    "model\tcase\tprecision\tcompiled\tbatch\tvariants/s\tTFLOP/s\tof matrix rate\tx two passes\tGiB\t"
    "correlation\tlargest error\tmedian error"
)


def shown(row: dict[str, Any]) -> str:
    """A row of the table."""
    head = [
        row["model"],
        row["case"],
        row["precision"],
        "yes" if row["compiled"] else "no",
        row["batch_size"],
    ]
    if "error" in row:
        return "\t".join(map(str, [*head, row["error"]]))
    numbers = [
        f"{row['variants_per_second']:.1f}",
        f"{row['tflops']:.2f}",
        f"{row['share_of_matrix_rate']:.0%}",
        f"{row['times_two_passes']:.1f}",
        f"{row['peak_gib']:.1f}",
        f"{row['correlation']:.6f}",
        f"{row['largest_error']:.1e}",
        f"{row['median_error']:.1e}",
    ]
    return "\t".join(map(str, [*head, *numbers]))


def measure(bench: Bench, case: Case, options: argparse.Namespace, sizes: list[int]) -> list[dict[str, Any]]:
    """All rows of a case."""
    rows: list[dict[str, Any]] = []

    def add(precision: str, compiled: bool, size: int) -> None:
        rows.append(bench.row(case, precision, compiled, size))
        print(shown(rows[-1]), flush=True)

    for precision in options.precisions.split(","):
        if options.compile != "only":
            for size in sizes:
                add(precision, False, size)
        done = [row for row in rows if row["precision"] == precision and "error" not in row]
        chosen = sizes
        if options.compile == "best" and done:
            chosen = [max(done, key=lambda row: row["variants_per_second"])["batch_size"]]
        if options.compile != "no":
            for size in chosen:
                add(precision, True, size)
    return rows


def numbers(text: str) -> list[int]:
    """Whole numbers separated by commas."""
    return [int(part) for part in text.split(",")]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", default="enformer,sparse")
    parser.add_argument("--cases", default="shared,single")
    parser.add_argument("--precisions", default=",".join(PRECISIONS))
    parser.add_argument("--compile", choices=("no", "best", "all", "only"), default="best")
    parser.add_argument("--batch-sizes", type=numbers, default=[8, 16, 32], help="of enformer")
    parser.add_argument("--long-batch-sizes", type=numbers, default=[1, 2, 4], help="of sparse")
    parser.add_argument("--windows", type=int, default=4, help="windows of the case shared, for enformer")
    parser.add_argument(
        "--tracks", type=int, default=10**9, help="tracks to score, of the first head's 5,313"
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true", help="tiny models, to try the script")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--json")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        print(
            f"gpu.py: this machine has no CUDA device (PyTorch {torch.__version__}), and nothing was "
            "measured. --device cpu --small tries the script without one.",
            file=sys.stderr,
        )
        return 1
    device = resolve_device(options.device)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    print(f"device: {device_kind(device)}; PyTorch {torch.__version__}")
    record: dict[str, Any] = {
        "device": device_kind(device),
        "small": options.small,
        "machine": peers.machine(),
        "rows": [],
        "within": [],
        "matrix_rates": {},
    }
    print(COLUMNS)
    for name in options.models.split(","):
        model = build(name, options.small)
        long = name != "enformer"
        sizes = [2, 4] if options.small else options.long_batch_sizes if long else options.batch_sizes
        windows = 1 if options.small or long else options.windows
        with tempfile.TemporaryDirectory() as folder:
            length = model.context_length + (2 * windows + 4) * 16 * model.bin_size
            bench = Bench(name, model, drawn_genome(folder, length), device, options.tracks, options.repeats)
            print(f"# {name}: {model.context_length:,} bp, {parameter_count(model):,} weights")
            both = cases(bench.genome, model, windows)
            for case in both:
                if case.name in options.cases.split(","):
                    record["rows"] += measure(bench, case, options, sizes)
                    peers.write_json(options.json, record)
            if long and device.type == "cuda":
                for precision in options.precisions.split(","):
                    found = bench.within(both[1], precision, LIMIT_GIB)
                    record["within"].append(found)
                    answer = f"yes, {found['peak_gib']:.1f} GiB" if found["fits"] else f"no: {found['error']}"
                    print(f"# {name}, {precision}, batch 1, in {LIMIT_GIB} GiB: {answer}", flush=True)
            record["matrix_rates"][name] = bench.rates
            rates = ", ".join(f"{each} {rate / 1e12:.2f}" for each, rate in bench.rates.items())
            print(f"# matrix product, TFLOP/s: {rates}")
        del bench, model
        start_memory(device)
    peers.write_json(options.json, record)
    return 0


if __name__ == "__main__":
    sys.exit(main())
