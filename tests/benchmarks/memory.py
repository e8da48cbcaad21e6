"""Peak memory and time by context length: predictions of whole models, and a step of training.

Every case runs in a process of its own, which may not take more than ``--limit-gib`` and is recorded as not
fitting where that does not do. Weights are drawn, sequences are random codes. Prints tables (TSV)::

    python tests/benchmarks/memory.py --json memory.json
    python tests/benchmarks/memory.py --only inference --models sparse_enformer --lengths 1048576,2097152
    python tests/benchmarks/memory.py --only training-wide --activations checkpointed --lengths 1048576

Parts (``--only``):
    inference       one forward pass through ``Predictor``, all tracks, at ``--channels``
    training        forward, backward and update of one window at ``--train-channels``, with and without
                    ``--checkpoint-activations``
    training-wide   the same at ``--channels``

Models: ``enformer+all`` is ``enformer`` with the logits of all pairs of bins in memory at once, as published;
``enformer+rotary`` has rotary positions and no dropout of attention weights, so that PyTorch's fused kernel
computes its attention;
``sparse_enformer+rotary`` is its block-sparse twin. ``plot_memory.py`` draws the JSON. What dense training
takes, beside sparse, until it does not fit::

    python tests/benchmarks/memory.py --only training --activations kept --limit-gib 16 \\
        --train-models enformer+all,enformer+rotary,sparse_enformer,sparse_enformer+rotary \\
        --train-lengths 131072,196608,262144,393216,524288,786432,1048576 --json training.json

Columns: ``weights`` with training's gradients and the optimizer's moments; ``activations`` is the peak less
what was there before the pass; ``process`` the peak of the whole process (on CUDA of its tensors); ``slope``
the growth of the peak since the length before. The defaults take more than a quarter of an hour on two cores.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import attention_memory
import numpy as np
import peers
import torch

from gexpr.models import registry
from gexpr.models.base import SequenceModel
from gexpr.models.enformer import Enformer
from gexpr.models.layers import one_hot
from gexpr.models.sparse_enformer import SparseEnformer
from gexpr.scoring.predictor import Predictor
from gexpr.training.config import OptimizerConfig
from gexpr.training.losses import poisson
from gexpr.training.memory import checkpoint_activations
from gexpr.training.optimizers import make_optimizer

MIB = 2**20
BIN_SIZE = 128
PARTS = ("inference", "training", "training-wide")
MODELS = ("sparse_enformer", "sparse_enformer+rotary", "enformer", "enformer+all", "enformer+rotary")
LENGTHS = "131072,262144,524288,1048576"
TRAIN_LENGTHS = "65536,131072,262144,524288"
NO_MEMORY = ("allocate memory", "MemoryError", "bad_alloc", "out of memory")


def build(options: argparse.Namespace, case: dict[str, Any]) -> SequenceModel:
    """The model of a case, with drawn weights."""
    torch.manual_seed(1)
    wide = case["part"] != "training"
    channels = options.channels if wide else options.train_channels
    depth = options.depth if wide else options.train_depth
    bins = case["bp"] // BIN_SIZE
    settings: dict[str, Any] = dict(
        context_length=case["bp"],
        target_length=bins - 2 * min(options.crop, bins // 4),
        heads={"tracks": options.tracks},
        channels=channels,
        divisible_by=128 if channels % 256 == 0 else 8,
        depth=depth,
        attention_heads=options.heads,
    )
    if case["model"] not in MODELS:
        raise SystemExit(f"{case['model']!r} is no model; there are: {', '.join(MODELS)}")
    name, _, variant = case["model"].partition("+")
    if variant == "rotary":
        # The fused kernel has no dropout on CPU.
        settings |= {"positions": "rotary", "attention_dropout": 0.0}
    architecture = {"enformer": Enformer, "sparse_enformer": SparseEnformer}[name]
    model = peers.drawn(architecture, registry.config_from_dict(name, settings))  # type: ignore[type-var]
    if variant == "all":
        for block in model.transformer:  # type: ignore[union-attr]
            block.attention.implementation = "dense"  # type: ignore[union-attr]
    return model


class Peak:
    """The largest memory since it was made: of the process, or on CUDA of its tensors."""

    def __init__(self, device: str) -> None:
        self.cuda = device.startswith("cuda")
        if self.cuda:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            self.before = torch.cuda.memory_allocated()
        else:
            Path("/proc/self/clear_refs").write_text("5")  # starts the peak anew
            self.before = attention_memory.resident("VmRSS")

    def found(self, weights: int) -> dict[str, int]:
        """What there was before, and at most since, beside the bytes of ``weights``."""
        peak = torch.cuda.max_memory_allocated() if self.cuda else attention_memory.resident("VmHWM")
        return {"weights": weights, "before": self.before, "peak": peak}


def limit(options: argparse.Namespace) -> None:
    """Let allocations beyond the limit fail."""
    size = int(options.limit_gib * 2**30)
    if options.device.startswith("cuda"):
        whole = torch.cuda.get_device_properties(options.device).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, size / whole))
    else:
        attention_memory.limit_memory(size - attention_memory.resident("VmRSS"))


def timed(function: Callable[[], Any]) -> tuple[float, float, Any]:
    """Seconds of the clock, seconds of the processor, and the result."""
    started = time.process_time()
    seconds, result = peers.timed(function)
    return seconds, time.process_time() - started, result


def predict(options: argparse.Namespace, case: dict[str, Any], codes: torch.Tensor) -> dict[str, float]:
    """One forward pass."""
    model = build(options, case)
    weights = sum(each.numel() * each.element_size() for each in model.parameters())
    predictor = Predictor(model, device=options.device, batch_size=1, reverse_complement=False)
    peak = Peak(options.device)
    seconds, cpu_seconds, _ = timed(lambda: next(iter(predictor.predict_passes(codes)))[1])
    return {"seconds": seconds, "cpu_seconds": cpu_seconds, **peak.found(weights)}


def train(options: argparse.Namespace, case: dict[str, Any], codes: torch.Tensor) -> dict[str, float]:
    """One step of training."""
    model = build(options, case).to(options.device).train()
    if case["checkpointed"]:
        checkpoint_activations(model)
    optimizer = make_optimizer(model, OptimizerConfig())
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()  # makes the moments
    weights = 4 * sum(each.numel() * each.element_size() for each in model.parameters())
    shape = (1, model.target_length, options.tracks)
    targets = torch.ones(shape, device=options.device)
    valid = torch.ones(shape[:2], dtype=torch.bool, device=options.device)

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        loss = poisson(model(one_hot(codes.to(options.device))), targets, valid)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return float(loss.detach())

    peak = Peak(options.device)
    seconds, cpu_seconds, loss = timed(step)
    return {"seconds": seconds, "cpu_seconds": cpu_seconds, **peak.found(weights), "loss": loss}


def child(options: argparse.Namespace) -> None:
    """Run one case in this process and print its figures as JSON."""
    torch.set_num_threads(options.threads)
    case = json.loads(options.case)
    codes = torch.from_numpy(np.random.default_rng(1).integers(0, 4, (1, case["bp"]), dtype=np.uint8))
    limit(options)
    found = (predict if case["part"] == "inference" else train)(options, case, codes)
    print(json.dumps(found))


def in_own_process(options: argparse.Namespace, case: dict[str, Any]) -> dict[str, Any]:
    """The figures of a case, or a note why there are none."""
    gib = options.limit_gib
    if not options.device.startswith("cuda"):
        gib = round(min(gib, available_gib() - 1.0), 1)
    command = [sys.executable, __file__, *sys.argv[1:], "--case", json.dumps(case), "--limit-gib", str(gib)]
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=options.timeout)
    except subprocess.TimeoutExpired:
        return {**case, "note": f"over {options.timeout:g} s"}
    if ran.returncode == 0:
        return {**case, **json.loads(ran.stdout.strip().splitlines()[-1])}
    if ran.returncode == -9 or any(text in ran.stderr for text in NO_MEMORY):
        return {**case, "note": f"does not fit in {gib:g} GiB"}
    raise SystemExit(f"{' '.join(command)} failed:\n{ran.stderr}")


def available_gib() -> float:
    """Memory that others leave."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable"):
            return int(line.split()[1]) / MIB
    raise RuntimeError("/proc/meminfo has no MemAvailable; this benchmark needs Linux")


def series(options: argparse.Namespace) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Cases of growing length, by a title for each series."""
    for part in options.only.split(","):
        if part not in PARTS:
            raise SystemExit(f"--only names {part!r}; there are: {', '.join(PARTS)}")
        lengths = options.train_lengths if part == "training" else options.lengths
        cases = [{"part": part, "bp": length} for length in sorted(map(int, lengths.split(",")))]
        if part == "inference":
            for model in options.models.split(","):
                yield model, [{**case, "model": model} for case in cases]
            continue
        for model, mode in itertools.product(options.train_models.split(","), options.activations.split(",")):
            if mode not in ("kept", "checkpointed"):
                raise SystemExit(f"--activations names {mode!r}; there are: kept, checkpointed")
            checkpointed = mode == "checkpointed"
            title = f"{model}{', checkpointed activations' if checkpointed else ''}"
            yield title, [{**case, "model": model, "checkpointed": checkpointed} for case in cases]


def row(title: str, result: dict[str, Any], before: dict[str, Any] | None) -> str:
    """A line of the table."""
    start = [result["part"], title, f"{result['bp']:,}"]
    if "note" in result:
        return "\t".join([*start, *[""] * 6, result["note"]])
    slope = ""
    if before is not None and "peak" in before:
        slope = f"{(result['peak'] - before['peak']) / MIB / ((result['bp'] - before['bp']) / 1000):.2f}"
    sizes = (result["weights"], result["peak"] - result["before"], result["peak"])
    seconds = [f"{result[name]:.1f}" for name in ("seconds", "cpu_seconds")]
    return "\t".join([*start, *(f"{size / MIB:,.0f}" for size in sizes), slope, *seconds, ""])


def parse() -> argparse.Namespace:
    """Command-line options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="inference,training", help=f"of: {', '.join(PARTS)}")
    parser.add_argument("--models", default="sparse_enformer,enformer", help=f"of: {', '.join(MODELS)}")
    parser.add_argument("--lengths", default=LENGTHS, help="bp, of inference and training-wide")
    parser.add_argument("--channels", type=int, default=1536)
    parser.add_argument("--depth", type=int, default=11)
    parser.add_argument("--heads", type=int, default=8)
    parser.add_argument("--tracks", type=int, default=5313)
    parser.add_argument(
        "--crop", type=int, default=320, help="bins on each side not predicted, at most a quarter"
    )
    parser.add_argument("--train-lengths", default=TRAIN_LENGTHS, help="bp, of training")
    parser.add_argument(
        "--activations", default="kept,checkpointed", help="of training: these, or one of them"
    )
    parser.add_argument("--train-models", default="sparse_enformer", help=f"of training: {', '.join(MODELS)}")
    parser.add_argument("--train-channels", type=int, default=384)
    parser.add_argument("--train-depth", type=int, default=4)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--limit-gib", type=float, default=20.0)
    parser.add_argument("--timeout", type=float, default=3600.0, help="seconds for one case")
    parser.add_argument("--json")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Run one case, or all and print the table."""
    options = parse()
    if options.case:
        child(options)
        return
    sizes = ("weights MiB", "activations MiB", "process MiB", "slope MiB/kb")
    print("\t".join(["part", "model", "bp", *sizes, "seconds", "CPU seconds", "note"]), flush=True)
    results = []
    for title, cases in series(options):
        before = None
        for case in cases:
            result = in_own_process(options, case)
            print(row(title, result, before), flush=True)
            results.append({"title": title, **result})
            before = result
            # written after every case, since the long ones take minutes
            peers.write_json(
                options.json,
                {
                    "options": vars(options),
                    "machine": peers.machine(),
                    "finished": time.strftime("%Y-%m-%d %H:%M"),
                    "results": results,
                },
            )


if __name__ == "__main__":
    main()
