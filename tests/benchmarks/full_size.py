"""Enformer and Borzoi at full size, drawn weights: convert, load, score, predict, with time and memory.

The programs that such weights come from are instantiated and write their own state dicts, so
enformer-pytorch and borzoi-pytorch have to be installed beside gexpr. Every step is one process, as a user
runs it; its seconds are those of the wall clock, its peak is the kernel's (``ru_maxrss``). The four variants
lie in one drawn contig, two of them in one window. About 20 minutes and 16 GiB on two cores.

Examples::

    python tests/benchmarks/full_size.py --threads 2 --json full_size.json
    python tests/benchmarks/full_size.py --only borzoi --workdir /scratch/full_size
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from peers import machine, write_json

_DRAW = """
import sys, torch
torch.manual_seed(1)
kind, path = sys.argv[1:]
if kind == "enformer":
    from enformer_pytorch import Enformer
    model = Enformer.from_hparams(
        dim=1536, depth=11, heads=8, output_heads=dict(human=5313, mouse=1643), target_length=896
    )
else:
    from borzoi_pytorch.config_borzoi import BorzoiConfig
    from borzoi_pytorch.pytorch_borzoi_model import Borzoi
    model = Borzoi(BorzoiConfig(enable_mouse_head=True))
with torch.no_grad():
    for name, each in model.named_parameters():
        each.normal_(0, each[0].numel() ** -0.5 if each.ndim > 1 else 0.1)
    for name, module in model.named_modules():
        if isinstance(module, (torch.nn.BatchNorm1d, torch.nn.LayerNorm)):
            module.weight.uniform_(0.8, 1.2)
        if isinstance(module, torch.nn.BatchNorm1d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
torch.save(model.state_dict(), path)
"""
_LOAD = """
import sys, time
from gexpr import checkpoints
import gexpr.models.registry, torch
begun = time.monotonic()
checkpoints.load(sys.argv[1])
print(time.monotonic() - begun)
"""


def _genome(path: Path, length: int) -> str:
    bases = "".join(random.Random(3).choices("ACGT", k=length))
    path.write_text(">chr1\n" + "\n".join(bases[at : at + 60] for at in range(0, length, 60)) + "\n")
    return bases


def _variants(path: Path, bases: str, positions: Sequence[int]) -> None:
    """SNVs and, last, a deletion of two bases; ``positions`` count from 0."""
    lines = ["##fileformat=VCFv4.2", f"##contig=<ID=chr1,length={len(bases)}>"]
    lines.append("#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO")
    for number, position in enumerate(positions):
        reference = bases[position]
        alternate = "ACGT"[("ACGT".index(reference) + 1) % 4]
        if number == len(positions) - 1:
            reference, alternate = bases[position : position + 3], bases[position]
        lines.append(f"chr1\t{position + 1}\t.\t{reference}\t{alternate}\t.\t.\t.")
    path.write_text("\n".join(lines) + "\n")


def _step(name: str, command: Sequence[str | Path], threads: int) -> dict[str, Any]:
    """Run one process; its name, seconds, peak memory and last line of output."""
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    with tempfile.TemporaryFile() as output:
        begun = time.monotonic()
        child = subprocess.Popen([str(part) for part in command], stdout=output, env=environment)
        _, status, usage = os.wait4(child.pid, 0)
        seconds = time.monotonic() - begun
        child.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        lines = output.read().decode().splitlines()
    if child.returncode:
        raise SystemExit(f"{name}: exit code {child.returncode}")
    row = {"step": name, "seconds": seconds, "peak_mib": usage.ru_maxrss / 1024}
    if name.endswith("loading alone"):
        row["loading_seconds"] = float(lines[-1])
    return row


def _steps(kind: str, folder: Path) -> Iterator[tuple[str, list[str | Path]]]:
    python = sys.executable
    gexpr: list[str | Path] = [python, "-m", "gexpr"]
    state, checkpoint = folder / f"{kind}.bin", folder / kind
    yield "weights drawn by the original program", [python, "-c", _DRAW, kind, state]
    yield "gexpr convert", [*gexpr, "convert", f"{kind}-pytorch", state, "-o", checkpoint]
    yield "gexpr inspect", [*gexpr, "inspect", checkpoint]
    yield "loading alone", [python, "-c", _LOAD, checkpoint]
    genome = folder / f"{kind}.fa"
    common: list[str | Path] = ["--checkpoint", checkpoint, "--fasta", genome, "--no-rc", "--device", "cpu"]
    if kind == "enformer":
        bases = _genome(genome, 600_000)
        vcf = folder / f"{kind}.vcf"
        _variants(vcf, bases, (150_000, 150_400, 300_000, 450_000))
        score = [*gexpr, "score-variants", vcf, *common, "--force"]
        yield "gexpr score-variants, 4 variants", [*score, "-o", folder / f"{kind}.h5"]
    else:
        _genome(genome, 600_000)
        bed = folder / f"{kind}.bed"
        bed.write_text("chr1\t201696\t398304\n")
        predict = [*gexpr, "predict", bed, *common, "--force"]
        yield "gexpr predict, one window", [*predict, "-o", folder / f"{kind}.h5"]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=("enformer", "borzoi"), help="one of the two")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--workdir", type=Path, help="keep the files here (6 GB); default: temporary")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.workdir or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        print("| model | step | seconds | peak MiB |\n|---|---|---|---|", flush=True)
        for kind in (arguments.only,) if arguments.only else ("enformer", "borzoi"):
            for name, command in _steps(kind, folder):
                row = {"model": kind, **_step(name, command, arguments.threads)}
                rows.append(row)
                note = f" ({row['loading_seconds']:.1f} of them loading)" if "loading_seconds" in row else ""
                print(
                    f"| {kind} | {name} | {row['seconds']:.1f}{note} | {row['peak_mib']:,.0f} |", flush=True
                )
    write_json(arguments.json, {"machine": machine(), "threads": arguments.threads, "rows": rows})


if __name__ == "__main__":
    main()
