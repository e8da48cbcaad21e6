"""Peak memory and time of one attention layer, dense and block-sparse, over the length of the input.

Every measurement runs in a process of its own; the rows of one run are measured side by side. The
layer has Enformer's sizes (1,536 channels, 8 heads, keys of 64, values of 192); the block-sparse ones use
blocks of 64 bins, a window of 3 blocks, first and last block global, 3 random blocks.

``dense``          every bin attends to every bin, Enformer's relative positions (materialized logits)
``sparse``         block-sparse, Enformer's relative positions
``dense_rotary``   every bin attends to every bin, rotary positions, PyTorch's fused attention
``sparse_rotary``  block-sparse, rotary positions

Memory is the growth of the resident set's peak while the layer runs, beyond weights and input.
What needs more than ``--memory-limit`` GiB or ``--timeout`` seconds is recorded as such.

    python tests/benchmarks/attention_memory.py > attention.tsv
    python tests/benchmarks/attention_memory.py --bins 1024,2048 --variants dense,sparse
"""

from __future__ import annotations

import argparse
import json
import re
import resource
import subprocess
import sys
import time

# context lengths of the papers (bp, with bins of 128 bp) and the powers of two between them
NAMED_BP = (131_072, 196_608, 393_216, 589_824, 786_432, 1_048_576)
BINS = (1024, 1536, 2048, 3072, 4096, 4608, 6144, 8192, 16384)
VARIANTS = ("dense", "sparse", "dense_rotary", "sparse_rotary")
DIRECTIONS = ("forward", "forward+backward")
BIN_SIZE = 128
MIB = 2**20


def status_field(name: str) -> int:
    """A memory field of this process, in bytes."""
    with open("/proc/self/status") as status:
        match = re.search(rf"^{name}:\s+(\d+) kB", status.read(), re.MULTILINE)
    assert match is not None, name
    return int(match.group(1)) * 1024


def measure(variant: str, direction: str, bins: int, arguments: argparse.Namespace) -> dict[str, float]:
    """Run one layer once; in its own process."""
    import torch

    from gexpr.models.enformer import EnformerConfig, MultiheadAttention
    from gexpr.models.sparse_enformer import SparseEnformerConfig

    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    settings = {
        "context_length": bins * BIN_SIZE,
        "target_length": bins,
        "positions": "rotary" if variant.endswith("rotary") else "enformer",
        "attention_dropout": 0.0,
        "position_dropout": 0.0,
    }
    if variant.startswith("sparse"):
        config: EnformerConfig = SparseEnformerConfig(
            **settings,
            block_size=arguments.block_size,
            random_blocks=arguments.random_blocks,
            attention_implementation="block_sparse",
        )
    else:
        config = EnformerConfig(**settings)
    layer = MultiheadAttention(config, config.pattern(0))
    layer.initialize()
    torch.nn.init.normal_(layer.to_output.weight, std=0.02)
    backward = direction == "forward+backward"
    layer.train(backward)

    def run(length: int) -> float:
        x = torch.randn(1, length, config.channels, requires_grad=backward)
        with open("/proc/self/clear_refs", "w") as refs:
            refs.write("5")  # the peak starts again from what is resident now
        nonlocal before
        before = status_field("VmRSS")
        started = time.perf_counter()
        with torch.set_grad_enabled(backward):
            y = layer(x)
            if backward:
                y.square().mean().backward()
        return time.perf_counter() - started

    before = 0
    run(512)  # loads kernels
    limit = status_field("VmSize") + int(arguments.memory_limit * 2**30)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    seconds = run(bins)
    return {"seconds": seconds, "peak_MiB": (status_field("VmHWM") - before) / MIB}


def row(variant: str, direction: str, bins: int, arguments: argparse.Namespace) -> list[str]:
    """Measure in a child process; a line of the table."""
    command = [sys.executable, __file__, "--child", f"{variant},{direction},{bins}"]
    command += ["--threads", str(arguments.threads), "--memory-limit", str(arguments.memory_limit)]
    command += ["--block-size", str(arguments.block_size), "--random-blocks", str(arguments.random_blocks)]
    seconds = peak = "-"
    outcome = "ok"
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=arguments.timeout)
        if done.returncode == 0:
            result = json.loads(done.stdout)
            seconds, peak = f"{result['seconds']:.3f}", f"{result['peak_MiB']:.0f}"
        elif "alloc" in done.stderr or "MemoryError" in done.stderr or done.returncode == -9:
            outcome = f"needs more than {arguments.memory_limit:g} GiB"
        else:
            raise RuntimeError(f"{variant} {direction} {bins}: {done.stderr}")
    except subprocess.TimeoutExpired:
        outcome = f"took more than {arguments.timeout:g} s"
    bp = bins * BIN_SIZE
    return [str(bins), str(bp) if bp in NAMED_BP else "-", direction, variant, seconds, peak, outcome]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--bins", default=",".join(map(str, BINS)), help="lengths in bins")
    parser.add_argument("--variants", default=",".join(VARIANTS))
    parser.add_argument("--directions", default=",".join(DIRECTIONS))
    parser.add_argument("--block-size", type=int, default=64)
    parser.add_argument("--random-blocks", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--memory-limit", type=float, default=16.0, help="GiB beyond weights and input")
    parser.add_argument("--timeout", type=float, default=300.0, help="seconds a measurement")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        variant, direction, bins = arguments.child.split(",")
        print(json.dumps(measure(variant, direction, int(bins), arguments)))
        return
    print("bins", "context_bp", "direction", "attention", "seconds", "peak_MiB", "outcome", sep="\t")
    for bins in map(int, arguments.bins.split(",")):
        for direction in arguments.directions.split(","):
            for variant in arguments.variants.split(","):
                print(*row(variant, direction, bins, arguments), sep="\t", flush=True)


if __name__ == "__main__":
    main()
