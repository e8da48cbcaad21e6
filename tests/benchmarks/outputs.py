"""Time, size and memory of every output format of variant scores, without any model.

A run directory is filled with blocks of drawn scores and merged into each format as ``gexpr merge`` does, in
a process of its own; reading and verifying the blocks is included. Scores are drawn from a normal
distribution, whose digits hardly compress. The VCF has SNVs with a short INFO.

Examples::

    python tests/benchmarks/outputs.py                      # 100,000 SNVs, 74 tracks
    python tests/benchmarks/outputs.py --variants 5000 --json outputs.json
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from peers import in_child, machine, median, write_json

from gexpr import logs
from gexpr.results import Track
from gexpr.runs.common import pack_tracks
from gexpr.runs.control import merge
from gexpr.runs.directory import Manifest, RunDirectory
from gexpr.runs.score_outputs import COLUMNS, ScoreSink, score_outputs
from gexpr.variants.vcf import open_vcf
from gexpr.writers.parts import Part

BLOCK_ROWS = 1024
CASES: dict[str, tuple[list[str], bool]] = {
    "HDF5": (["a.h5"], False),
    "TSV": (["a.tsv"], False),
    "TSV, bgzipped": (["a.tsv.gz"], False),
    "TSV, one line a number, bgzipped": (["a.tsv.gz"], True),
    "VCF": (["a.vcf"], False),
    "VCF, bgzipped, with index": (["a.vcf.gz"], False),
    "Parquet": (["a.parquet"], False),
    "HDF5, TSV, VCF (bgzipped) and Parquet in one pass": (
        ["a.h5", "a.tsv.gz", "a.vcf.gz", "a.parquet"],
        False,
    ),
    "the blocks read and verified only": ([], False),
}


def draw_run(folder: Path, variants: int, tracks: int, statistics: int) -> None:
    """``v.vcf`` and ``work``: a VCF of sorted SNVs and a finished run of its scores."""
    rng = np.random.default_rng(1)
    letters = np.array(list("ACGT"))
    rows = []
    with open(folder / "v.vcf", "w") as file:
        file.write("##fileformat=VCFv4.3\n##contig=<ID=chr1,length=248956422>\n")
        file.write('##INFO=<ID=AF,Number=A,Type=Float,Description="Frequency">\n')
        file.write("#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n")
        positions = np.sort(rng.choice(248_000_000, variants, replace=False)) + 1
        for number, (pos, ref, step) in enumerate(
            zip(positions.tolist(), rng.integers(0, 4, variants), rng.integers(1, 4, variants), strict=True)
        ):
            row = ("chr1", pos, f"rs{number + 1000000}", letters[ref], letters[(ref + step) % 4])
            file.write("\t".join(map(str, row)) + f"\t.\tPASS\tAF={rng.random():.4f}\n")
            rows.append((number, number + 5, *row[:3], str(row[3]), str(row[4]), "ok"))
    names = ["logFC", "SAD", "logSAD", "sqrtSAD", "D2"][:statistics]
    known = [Track(i, f"ENCFF{i:03d}ABC", f"DNASE:cell line {i}") for i in range(tracks)]
    fingerprint = {
        "gexpr_version": "0",
        "checkpoint": "drawn",
        "checkpoint_sha256": "0" * 64,
        "batch_size": 1,
        "dtype": "float32",
        "vcf": "v.vcf",
        "vcf_sha256": open_vcf(folder / "v.vcf").sha256,
    }
    content = {
        "records": variants,
        "by_status": {"ok": variants},
        "contig_aliases": "",
        "statistics": names,
        "tracks": pack_tracks(known),
    }
    manifest = Manifest("score-variants", fingerprint, variants, BLOCK_ROWS, content)
    directory = RunDirectory(folder / "work")
    directory.create()
    directory.agree(manifest)
    for number in range(manifest.blocks):
        start, end = manifest.block(number)
        scores = {name: rng.normal(size=(end - start, tracks)).astype(np.float32) for name in names}
        columns = dict(zip(COLUMNS, map(list, zip(*rows[start:end], strict=True)), strict=True))
        directory.write(manifest, number, Part(scores, {"columns": columns, "batch_size": 1}))


def memory(name: str) -> float:
    """Resident memory of this process in MiB: ``VmRSS``, or ``VmHWM`` the most since it was started.

    Unlike getrusage, which counts what the parent had when the process was forked.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{name}:"))


def measure(folder: Path, case: str) -> dict[str, Any]:
    """Merge once, in this process: seconds, bytes and the most memory."""
    logs.set_quiet(True)
    names, long = CASES[case]
    directory = RunDirectory(folder / "work")
    manifest = directory.manifest()
    before = memory("VmRSS")
    with tempfile.TemporaryDirectory(dir=folder) as target:
        outputs = score_outputs([f"{target}/{name}" for name in names], None, long)
        vcf = str(folder / "v.vcf")
        started = time.perf_counter()
        if names:
            merge(
                directory,
                manifest,
                lambda claimed, plan: ScoreSink(claimed, plan, outputs, vcf=(vcf, vcf)),
                outputs.paths,
            )
        else:
            for number in range(manifest.blocks):
                directory.read(manifest, number)
        seconds = time.perf_counter() - started
        size = sum(entry.stat().st_size for entry in os.scandir(target))
    return {"seconds": seconds, "bytes": size, "peak_mib": memory("VmHWM"), "start_mib": before}


def table(record: dict[str, Any]) -> Iterator[str]:
    """The record as Markdown."""
    yield "| output | seconds | MB | peak memory, MiB (above the start) |"
    yield "|---|---|---|---|"
    for case, values in record["cases"].items():
        more = values["peak_mib"] - values["start_mib"]
        size = f"{values['bytes'] / 1e6:,.1f}" if values["bytes"] else "–"
        yield f"| {case} | {values['seconds']:.1f} | {size} | {values['peak_mib']:.0f} ({more:.0f}) |"


def main() -> None:
    """Parse, measure each case in a child, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--variants", type=int, default=100_000)
    parser.add_argument("--tracks", type=int, default=74)
    parser.add_argument("--statistics", type=int, default=1, choices=range(1, 6))
    parser.add_argument("--only", action="append", choices=list(CASES), help="repeatable")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--folder", help="where to work  [default: among the temporary files]")
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--child", nargs=2, metavar=("FOLDER", "CASE"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        print(json.dumps(measure(Path(given.child[0]), given.child[1])))
        return
    record: dict[str, Any] = {"machine": machine(), "cases": {}}
    record |= {name: getattr(given, name) for name in ("variants", "tracks", "statistics", "repeats")}
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        draw_run(Path(name), given.variants, given.tracks, given.statistics)
        for case in given.only or CASES:
            runs = [in_child(__file__, "--child", name, case) for _ in range(given.repeats)]
            seconds = median([run["seconds"] for run in runs])
            record["cases"][case] = {**runs[0], "seconds": seconds}
            print(f"{case}: {seconds:.1f} s", file=sys.stderr)
    print(f"{given.variants:,} variants, {given.tracks} tracks, statistics: {given.statistics}\n")
    print("\n".join(table(record)))
    write_json(given.json, record)


if __name__ == "__main__":
    main()
