"""Time and peak memory of attention alone: block-sparse beside fused dense and Hugging Face's BigBird.

Queries, keys and values are given (8 heads of 64, float32, one sequence, blocks of 64): no projections.

dense               PyTorch's fused kernel, every position to every other
bigbird             BigBirdBlockSparseAttention of transformers in eval mode: window 3, 2 global and 3 random
                    blocks, which it draws then as block 0
sparse              gexpr, window 3, 2 global and 3 random blocks: 8 blocks a row
sparse5             gexpr, window 3 and 2 global blocks: 5 blocks a row
sparse+positions    as ``sparse``, with Enformer's relative positions

All kinds take turns in one process; the table has medians of the times, and medians of the ratios of a
turn. Peak memory is that of a process for each kind and length: resident memory during one pass less that
before it, inputs present. Without transformers its row is left out. Example::

    python tests/benchmarks/attention.py --threads 2 --json attention.json
    python tests/benchmarks/attention.py --backward --lengths 1024,2048,4096,8192
"""

from __future__ import annotations

import argparse
import ctypes
import json
import math
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")  # as the program does before it loads PyTorch

import attention_memory
import peers
import torch
import torch.nn.functional as F
from torch import Tensor

from gexpr.models.attention import BlockPattern, RelativeBias, attend

KINDS = ("dense", "bigbird", "sparse", "sparse5", "sparse+positions")
HEADS, SIZE, BLOCK = 8, 64, 64
WARM_UP = 768  # tokens that load the kernels; BigBird needs 12 blocks


def inputs(length: int, kind: str, backward: bool) -> list[Tensor]:
    """q (scaled for the expected logits of each kind), k, v and, for positions, the relative terms."""
    generator = torch.Generator().manual_seed(length)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    q, k, v = (draw(1, HEADS, length, SIZE) for _ in range(3))
    if kind != "bigbird":  # which scales by itself
        q *= SIZE**-0.5
    tensors = [q, k, v]
    if kind == "sparse+positions":
        tensors += [draw(HEADS, 2 * length - 1, SIZE) / SIZE, draw(HEADS, SIZE), draw(HEADS, SIZE)]
    return [x.requires_grad_(backward) for x in tensors]


def attention(kind: str, length: int) -> Callable[..., Tensor]:
    """The attention of a kind as a function of its :func:`inputs`."""
    if kind == "dense":
        return lambda q, k, v: F.scaled_dot_product_attention(q, k, v, scale=1.0)
    if kind == "bigbird":
        return bigbird(length)
    pattern = BlockPattern(BLOCK, HEADS, 0 if kind == "sparse5" else 3, True)
    return lambda q, k, v, *bias: attend(q, k, v, pattern, RelativeBias(*bias) if bias else None)


def bigbird(length: int) -> Callable[..., Tensor]:
    """The core of transformers' BigBird: (1, T, heads, size), without its projections."""
    from transformers import BigBirdConfig
    from transformers.models.big_bird import modeling_big_bird as peer

    config = BigBirdConfig(
        hidden_size=HEADS * SIZE,
        num_attention_heads=HEADS,
        block_size=BLOCK,
        num_random_blocks=3,
        max_position_embeddings=max(4096, length),
    )
    layer = peer.BigBirdBlockSparseAttention(config, seed=0).eval()
    blocked, band, rows, columns = peer.BigBirdModel.create_masks_for_block_sparse_attn(
        torch.ones(1, length), BLOCK
    )
    masks = (band, rows, columns, blocked, blocked)
    sizes = (HEADS, 3, SIZE, BLOCK, BLOCK, 1, length, length)

    def run(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return layer.bigbird_block_sparse_attention(
            q,
            k,
            v,
            *masks,
            *sizes,
            seed=0,
            plan_from_length=None,
            plan_num_rand_blocks=None,
            output_attentions=False,
        )[0]

    return run


def one_pass(function: Callable[..., Tensor], tensors: list[Tensor], backward: bool) -> None:
    """Forward in inference mode, or forward and backward."""
    if not backward:
        with torch.inference_mode():
            function(*tensors)
        return
    out = function(*tensors)
    torch.autograd.grad(out, tensors, torch.ones_like(out))


def peak(kind: str, length: int, backward: bool) -> float:
    """MiB that one pass needs in this process beyond its inputs."""
    function, tensors = attention(kind, length), inputs(length, kind, backward)
    one_pass(attention(kind, WARM_UP), inputs(WARM_UP, kind, backward), backward)
    ctypes.CDLL(None).malloc_trim(0)  # what the first pass freed must not serve the next
    Path("/proc/self/clear_refs").write_text("5")  # starts the peak anew
    before = attention_memory.resident("VmRSS")
    one_pass(function, tensors, backward)
    return (attention_memory.resident("VmHWM") - before) / attention_memory.MIB


def times(kinds: list[str], length: int, options: argparse.Namespace) -> dict[str, list[float]]:
    """Seconds of every kind, in turns."""
    clock = time.process_time if options.cpu_time else time.perf_counter
    found: dict[str, list[float]] = {kind: [] for kind in kinds}
    cases = {kind: (attention(kind, length), inputs(length, kind, options.backward)) for kind in kinds}
    started = time.perf_counter()
    for turn in range(-1, options.repeats):  # the first turn loads kernels, and is not counted
        for kind, (function, tensors) in cases.items():
            seconds, _ = peers.timed(lambda f=function, t=tensors: one_pass(f, t, options.backward), clock)
            if turn >= 0:
                found[kind].append(seconds)
        if turn >= 0 and time.perf_counter() - started > options.enough:
            break
    return found


def ratio(found: dict[str, list[float]], kind: str, to: str) -> float:
    """Median over the turns of the time of ``kind`` by that of ``to``; not a number where one is missing."""
    if kind not in found or to not in found:
        return math.nan
    return peers.median([mine / theirs for mine, theirs in zip(found[kind], found[to], strict=True)])


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lengths", default="1024,1536,2048,4096,8192,16384", help="tokens")
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--backward", action="store_true", help="forward and backward instead of inference")
    parser.add_argument("--repeats", type=int, default=15, help="turns")
    parser.add_argument("--enough", type=float, default=30.0, help="seconds after which no turn starts")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cpu-time", action="store_true", help="seconds of the processor, not of the clock")
    parser.add_argument("--no-memory", action="store_true", help="times only")
    parser.add_argument("--json")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Print the table; in a child, the peak of one kind at one length."""
    options = parse()
    torch.set_num_threads(options.threads)
    if options.child:
        kind, length = options.child
        print(json.dumps({"peak_mib": peak(kind, int(length), options.backward)}))
        return
    kinds = options.kinds.split(",")
    if "bigbird" in kinds:
        try:
            import transformers  # noqa: F401
        except ImportError:
            kinds.remove("bigbird")
            print("transformers is not installed: no rows for its BigBird", file=sys.stderr)
    rows: list[dict[str, Any]] = []
    print("tokens\tattention\tms\tpeak MiB\tdense / this\tbigbird / this", flush=True)
    for length in map(int, options.lengths.split(",")):
        found = times(kinds, length, options)
        for kind in kinds:
            row: dict[str, Any] = {"tokens": length, "attention": kind, "seconds": found[kind]}
            if not options.no_memory:
                arguments = ["--child", kind, str(length), "--threads", str(options.threads)]
                arguments += ["--backward"] if options.backward else []
                row |= peers.in_child(__file__, *arguments)
            row |= {f"{to}_by_this": ratio(found, to, kind) for to in ("dense", "bigbird") if to in found}
            rows.append(row)
            cells = [f"{length:,}", kind, f"{peers.median(found[kind]) * 1000:,.1f}"]
            cells.append(f"{row['peak_mib']:,.0f}" if "peak_mib" in row else "")
            cells += [f"{ratio(found, to, kind):.2f}" for to in ("dense", "bigbird")]
            print("\t".join(cells), flush=True)
    record = {"backward": options.backward, "cpu_time": options.cpu_time, "rows": rows}
    peers.write_json(options.json, {**record, "machine": peers.machine()})


if __name__ == "__main__":
    main()
