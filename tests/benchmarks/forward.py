"""One forward pass of Enformer: gexpr beside enformer-pytorch, same weights, time and peak memory.

Each run has a process of its own, the two in turn; prints a table with medians and the ratio. On a busy
machine take one thread and ``--cpu-time``, which counts the processor's seconds. Both need to be
installed (``pip install enformer-pytorch``). Example::

    python tests/benchmarks/forward.py --repeats 3 --json forward.json
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
import peers
import torch


def child(which: str, length: int, threads: int, out: str, cpu_time: bool) -> None:
    clock = time.process_time if cpu_time else time.perf_counter
    torch.set_num_threads(threads)
    model: torch.nn.Module = peers.drawn_enformer(
        context_length=length, target_length=min(896, length // 256)
    )
    x = torch.eye(4)[torch.from_numpy(np.random.default_rng(1).integers(0, 4, length))][None]
    if which == "enformer-pytorch":
        twin = peers.enformer_pytorch_twin(model)
        del model
        weights = peers.peak_mebibytes()
        with torch.inference_mode():
            seconds, result = peers.timed(lambda: twin(x, head="human"), clock)
    else:
        weights = peers.peak_mebibytes()
        with torch.inference_mode():
            seconds, result = peers.timed(lambda: model(x, "human"), clock)
    np.save(out, result.float().numpy())
    print(
        json.dumps(
            {
                "seconds": seconds,
                "peak_mib": peers.peak_mebibytes(),
                "before_mib": weights,
                "sha256": hashlib.sha256(result.numpy().tobytes()).hexdigest(),
            }
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--length", type=int, default=196_608)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cpu-time", action="store_true", help="seconds of the processor, not of the clock")
    parser.add_argument("--json")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--out", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.child, options.length, options.threads, options.out, options.cpu_time)
        return
    runs: dict[str, list[dict[str, float]]] = {"gexpr": [], "enformer-pytorch": []}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(options.repeats):
            for name, found in runs.items():
                arguments = ["--child", name, "--length", str(options.length)]
                arguments += ["--threads", str(options.threads), "--out", f"{folder}/{name}.npy"]
                arguments += ["--cpu-time"] if options.cpu_time else []
                found.append(peers.in_child(__file__, *arguments))
        ours, theirs = (np.load(f"{folder}/{name}.npy") for name in runs)
    difference = float(np.abs(ours - theirs).max())
    seconds = {name: peers.median([run["seconds"] for run in found]) for name, found in runs.items()}
    memory = {name: peers.median([run["peak_mib"] for run in found]) for name, found in runs.items()}
    print("program\tseconds\tpeak MiB of the process")
    for name in runs:
        print(f"{name}\t{seconds[name]:.1f}\t{memory[name]:,.0f}")
    print(f"ratio of times\t{seconds['enformer-pytorch'] / seconds['gexpr']:.2f}")
    print(f"ratio of memory\t{memory['gexpr'] / memory['enformer-pytorch']:.2f}")
    print(f"largest difference\t{difference:.1e} (largest value {float(np.abs(theirs).max()):.2f})")
    record = {"length": options.length, "runs": runs, "largest_difference": difference}
    peers.write_json(options.json, {**record, "machine": peers.machine()})


if __name__ == "__main__":
    main()
