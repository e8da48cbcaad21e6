"""Peak memory and time of one attention layer, dense against block-sparse, at growing lengths.

Every length, kind of attention and pass runs in its own process, so that peaks do not mix. The peak is the
largest resident memory during the passes less that just before them (weights and libraries loaded).
What runs out of memory or time is recorded as such. Prints a table (TSV) on standard output:

    python tests/benchmarks/attention_memory.py --memory-limit 16 --timeout 600 > attention.tsv

Kinds of attention:
    dense           Enformer's positions; the (T, T) logits are materialized
    sparse          Enformer's positions; block-sparse
    dense_fused     rotary positions; PyTorch's fused kernel, whose memory is linear too
    sparse_rotary   rotary positions; block-sparse
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

NAMED = {
    131_072: "Basenji2",
    196_608: "Enformer",
    393_216: "Enformer x 2",
    524_288: "Borzoi",
    589_824: "Enformer x 3",
    786_432: "Enformer x 4",
    1_048_576: "AlphaGenome",
}
BIN_SIZE = 128
KINDS = ("dense", "sparse", "dense_fused", "sparse_rotary")
PASSES = ("forward", "forward+backward")
DEFAULT_BINS = "1024,1536,2048,3072,4096,4608,6144,8192,12288,16384"
MIB = 2**20


def resident(field: str) -> int:
    """Bytes of VmRSS (now) or VmHWM (peak) of this process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {field}; this benchmark needs Linux")


def limit_memory(extra: int) -> None:
    """Let this process allocate ``extra`` more bytes; beyond, allocation fails instead of swapping."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmData"):
            now = int(line.split()[1]) * 1024
            resource.setrlimit(resource.RLIMIT_DATA, (now + extra, now + extra))


def measure(options: argparse.Namespace) -> dict[str, float]:
    """Run one layer in this process: {"peak_mib", "seconds", "cpu_seconds"}."""
    import torch

    from gexpr.models.attention import BlockPattern
    from gexpr.models.enformer import EnformerConfig, MultiheadAttention

    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    config = EnformerConfig(
        channels=options.channels,
        divisible_by=1,
        attention_heads=options.heads,
        key_size=options.key_size,
        positions="enformer" if options.kind in ("dense", "sparse") else "rotary",
        attention_dropout=options.dropout,
        position_dropout=0.0,
    )
    pattern = None
    if options.kind.startswith("sparse"):
        pattern = BlockPattern(options.block_size, options.heads, options.random_blocks, True)
    layer = MultiheadAttention(config, pattern)
    layer.initialize()
    if options.kind == "dense":
        layer.implementation = "dense"
    backward = options.one_pass == "forward+backward"
    layer.train(backward)

    def once(length: int) -> None:
        x = torch.randn(1, length, options.channels, requires_grad=backward)
        with torch.set_grad_enabled(backward):
            out = layer(x)
        if backward:
            out.backward(torch.ones_like(out))
            layer.zero_grad()

    once(3 * options.block_size)  # loads kernels
    layer.relative_bias(options.length, torch.zeros(())) if config.positions == "enformer" else None
    limit_memory(int(options.memory_limit * 2**30))
    Path("/proc/self/clear_refs").write_text("5")  # starts the peak anew
    before = resident("VmRSS")
    wall, cpu = [], []
    for _ in range(options.repeats):
        start, start_cpu = time.perf_counter(), time.process_time()
        once(options.length)
        wall.append(time.perf_counter() - start)
        cpu.append(time.process_time() - start_cpu)
    return {
        "peak_mib": (resident("VmHWM") - before) / MIB,
        "seconds": min(wall),
        "cpu_seconds": min(cpu),
    }


def in_own_process(options: argparse.Namespace, length: int, kind: str, one_pass: str) -> dict[str, object]:
    """Measure one cell in a child process; {"note"} where it did not come to an end."""
    command = [sys.executable, __file__, *sys.argv[1:]]
    command += ["--length", str(length), "--kind", kind, "--one-pass", one_pass]
    try:
        child = subprocess.run(command, capture_output=True, text=True, timeout=options.timeout)
    except subprocess.TimeoutExpired:
        return {"note": f"over {options.timeout:g} s"}
    if child.returncode == 0:
        return dict(json.loads(child.stdout.splitlines()[-1]))
    if child.returncode == -9 or "can't allocate memory" in child.stderr or "MemoryError" in child.stderr:
        return {"note": f"does not fit in {options.memory_limit:g} GiB"}
    raise SystemExit(f"{' '.join(command)} failed:\n{child.stderr}")


def parse() -> argparse.Namespace:
    """Command-line options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--bins", default=DEFAULT_BINS, help="lengths in bins of 128 bp")
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--passes", default=",".join(PASSES))
    parser.add_argument("--channels", type=int, default=1536)
    parser.add_argument("--heads", type=int, default=8)
    parser.add_argument("--key-size", type=int, default=64)
    parser.add_argument("--block-size", type=int, default=64)
    parser.add_argument("--random-blocks", type=int, default=3)
    parser.add_argument("--dropout", type=float, default=0.0, help="of the attention weights, in training")
    parser.add_argument("--repeats", type=int, default=2, help="the fastest counts")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--memory-limit", type=float, default=16.0, help="GiB")
    parser.add_argument("--timeout", type=float, default=900.0, help="seconds for one cell")
    parser.add_argument("--length", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--kind", choices=KINDS, help=argparse.SUPPRESS)
    parser.add_argument("--one-pass", choices=PASSES, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Measure one cell (``--length``) or print the whole table."""
    options = parse()
    if options.length is not None:
        print(json.dumps(measure(options)))
        return
    columns = ("bins", "bp", "name", "attention", "pass", "peak_mib", "seconds", "cpu_seconds", "note")
    print("\t".join(columns), flush=True)
    for length in map(int, options.bins.split(",")):
        for one_pass in options.passes.split(","):
            for kind in options.kinds.split(","):
                cell = in_own_process(options, length, kind, one_pass)
                numbers = [
                    f"{cell[name]:.{digits}f}" if name in cell else ""
                    for name, digits in (("peak_mib", 0), ("seconds", 2), ("cpu_seconds", 2))
                ]
                name = NAMED.get(length * BIN_SIZE, "")
                row = [str(length), str(length * BIN_SIZE), name, kind, one_pass, *numbers]
                print("\t".join([*row, str(cell.get("note", ""))]), flush=True)


if __name__ == "__main__":
    main()
