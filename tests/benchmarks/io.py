"""What surrounds the model: windows, VCF records and rows of output a second, and what is left for the model.

rates   windows of a drawn genome, as the scoring engine cuts them: for each SNV, sorted by position, the
        reference and the alternate; plain and bgzipped FASTA. Records of a drawn VCF, read strictly, and
        read, split and normalized; plain and bgzipped. Rows of scores written in blocks of a run to HDF5
        and TSV, to the part of a block, and with pyarrow to Parquet (gexpr's own is in outputs.py; left out
        where pyarrow is missing). Random numbers, which compress badly.
share   where the time of a whole ``gexpr score-variants`` goes, from the start of the process to its end. The
        command runs in a child, and clocks are put around functions from outside: the time inside an
        inner one is not counted in the outer one. ``model`` is all that runs inside
        ``Predictor.in_batches``, the layers of the model. Seconds of the writer's thread overlap with others.

Examples::

    python tests/benchmarks/io.py                          # rates, and the packaged example with yeast-tss
    python tests/benchmarks/io.py --only share --alleles 200 --repeats 3
    python tests/benchmarks/io.py --only share --enformer  # drawn weights, 1 GB, minutes
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

_BLOCK_ROWS = 256


# --- clocks around functions, in the process that is measured ------------------------------


class Clocks:
    """Seconds of the main thread by phase; each moment belongs to the innermost phase."""

    def __init__(self, started: float) -> None:
        self.seconds: dict[str, float] = {}
        self.overlapped: dict[str, float] = {}
        self._stack = ["interpreter and imports"]
        self._since = started

    def _turn(self) -> None:
        now = time.monotonic()
        phase = self._stack[-1]
        self.seconds[phase] = self.seconds.get(phase, 0.0) + now - self._since
        self._since = now

    def enter(self, phase: str) -> None:
        self._turn()
        self._stack.append(phase)

    def leave(self) -> None:
        self._turn()
        self._stack.pop()

    def around(self, function: Callable[..., Any], phase: str) -> Callable[..., Any]:
        """The function with a clock around it; calls in other threads are counted as overlapped."""

        def clocked(*given: Any, **named: Any) -> Any:
            if threading.current_thread() is not threading.main_thread():
                started = time.monotonic()
                try:
                    return function(*given, **named)
                finally:
                    self.overlapped[phase] = self.overlapped.get(phase, 0.0) + time.monotonic() - started
            self.enter(phase)
            try:
                return function(*given, **named)
            finally:
                self.leave()

        return clocked


def clocked_main(report: str, started: float, arguments: list[str]) -> None:
    """Run the command line of gexpr with clocks, and write what they say to a file."""
    clocks = Clocks(started)
    import builtins

    import gexpr.cli.main
    import gexpr.cli.score_variants
    import gexpr.runs.score_variants
    from gexpr import checkpoints
    from gexpr.genome.fasta import Fasta
    from gexpr.runs import control
    from gexpr.runs.directory import RunDirectory
    from gexpr.runs.writing import WriterThread
    from gexpr.scoring import engine
    from gexpr.scoring.predictor import Predictor
    from gexpr.variants.vcf import VcfSource

    jobs = gexpr.runs.score_variants

    def clock(owner: Any, name: str, phase: str) -> None:
        setattr(owner, name, clocks.around(getattr(owner, name), phase))

    # What is imported later than at the start.
    clock(builtins, "__import__", "interpreter and imports")
    clock(checkpoints, "load", "checkpoint")
    clock(checkpoints, "describe", "checkpoint")
    for name in ("__init__", "digest"):
        clock(Fasta, name, "FASTA: opening and digest")
    clock(jobs, "open_vcf", "VCF: opening, scan and digest")
    clock(jobs, "scan", "VCF: opening, scan and digest")
    clock(jobs.ScoreTask, "fingerprint", "fingerprint")
    VcfSource.sha256.func = clocks.around(VcfSource.sha256.func, "VCF: opening, scan and digest")
    clock(jobs.VariantRows, "read", "VCF: a block's variants")
    clock(engine.VariantScorer, "score", "scoring besides the model")
    clock(engine.VariantScorer, "_statistics", "scoring besides the model: statistics")
    clock(WriterThread, "put", "waiting for the writer")
    clock(WriterThread, "_wait", "waiting for the writer")
    clock(RunDirectory, "write", "writing parts")
    clock(control, "merge", "merging into the output")

    import torch

    def in_model(function: Callable[..., Any]) -> Callable[..., Any]:
        def finished(*given: Any) -> Any:
            result = function(*given)
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            return result

        return clocks.around(finished, "model")

    in_batches = Predictor.in_batches

    def around_batches(self: Predictor, function: Callable[..., Any], *given: Any, **named: Any) -> Any:
        return in_batches(self, in_model(function), *given, **named)

    Predictor.in_batches = around_batches
    prefetch = engine.prefetch

    def awaited(*given: Any, **named: Any) -> Iterator[Any]:
        items = prefetch(*given, **named)
        following = clocks.around(lambda: next(items, None), "scoring besides the model: waiting for windows")
        while (item := following()) is not None:
            yield item

    engine.prefetch = awaited
    clocks.enter("other")
    code = 1
    try:
        sys.argv = ["gexpr", *arguments]
        gexpr.cli.main.main(arguments, prog_name="gexpr", standalone_mode=False)
        code = 0
    finally:
        clocks.leave()
        record = {
            "seconds": clocks.seconds,
            "overlapped": clocks.overlapped,
            "ended": time.monotonic(),
            "code": code,
        }
        Path(report).write_text(json.dumps(record))


# --- rates ---------------------------------------------------------------------------------


def draw_genome(folder: Path, bases: int) -> dict[str, Path]:
    """Two drawn contigs as plain and bgzipped FASTA."""
    from gexpr.writers.output import BgzfFile

    generator = random.Random(1)
    plain, zipped = folder / "drawn.fa", folder / "drawn.fa.gz"
    with open(plain, "wb") as file:
        for name in ("chr1", "chr2"):
            text = "".join(generator.choices("ACGT", k=bases // 2))
            lines = "\n".join(text[at : at + 60] for at in range(0, len(text), 60))
            file.write(f">{name}\n{lines}\n".encode())
    with open(zipped, "wb") as file:
        bgzf = BgzfFile(file)
        bgzf.write(plain.read_bytes())
        bgzf.finish()
    return {"plain": plain, "bgzip": zipped}


def draw_vcf(folder: Path, fasta: Any, records: int) -> dict[str, Path]:
    """Sorted records, of which one in ten is a deletion or an insertion and one in twenty has two ALTs."""
    from gexpr.writers.output import BgzfFile

    generator = random.Random(2)
    lines = ["##fileformat=VCFv4.3", "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO"]
    for contig in fasta.names:
        places = sorted(generator.sample(range(1000, fasta.lengths[contig] - 1000), records // 2))
        for place in places:
            kind = generator.random()
            ref = fasta.fetch(contig, place, place + (4 if kind < 0.05 else 1))
            others = [base for base in "ACGT" if base != ref[0]]
            if kind < 0.1:
                alt = ref[0] if kind < 0.05 else ref + "GATTACA"
            else:
                alt = others[0] if kind > 0.15 else ",".join(others[:2])
            lines.append(f"{contig}\t{place + 1}\trs{place}\t{ref}\t{alt}\t50\tPASS\tAF=0.01;AN=5008")
    data = ("\n".join(lines) + "\n").encode()
    plain, zipped = folder / "drawn.vcf", folder / "drawn.vcf.gz"
    plain.write_bytes(data)
    with open(zipped, "wb") as file:
        bgzf = BgzfFile(file)
        bgzf.write(data)
        bgzf.finish()
    return {"plain": plain, "bgzip": zipped}


def snvs(fasta: Any, count: int, length: int) -> list[Any]:
    """SNVs at even distances, far enough from the ends for a window of ``length``."""
    from gexpr.results import Variant

    found = []
    for contig in fasta.names:
        room = fasta.lengths[contig] - length
        for number in range(count // 2):
            start = length // 2 + room * number // (count // 2)
            ref = fasta.fetch(contig, start, start + 1)
            alt = "C" if ref == "A" else "A"
            row = len(found)
            found.append(
                Variant(row, row + 1, contig, start + 1, ".", ref, alt, "ok", contig, start, ref, alt)
            )
    return found


def window_rates(files: dict[str, Path]) -> Iterator[tuple[str, int, Callable[[], Any]]]:
    """Cases: what is counted, how many, and the work."""
    from gexpr.genome.fasta import Fasta
    from gexpr.scoring.engine import FastaWindows

    for kind, path in files.items():
        for length, count in ((16_384, 2_000), (196_608, 400)):
            fasta = Fasta(path)
            variants = snvs(fasta, count, length)

            def work(path: Path = path, variants: list[Any] = variants, length: int = length) -> None:
                windows = FastaWindows(Fasta(path))
                for variant in variants:
                    windows.reference(variant, length, variant.start - length // 2)
                    windows.alternate(variant, length, variant.start - length // 2)

            yield f"windows of {length:,} bp, {kind} FASTA", 2 * len(variants), work


def record_rates(
    fasta: Any, files: dict[str, Path], count: int
) -> Iterator[tuple[str, int, Callable[[], Any]]]:
    """Cases of VCF reading."""
    from gexpr.genome.contigs import ContigMap
    from gexpr.variants.alleles import AlleleReader
    from gexpr.variants.vcf import open_vcf

    for kind, path in files.items():

        def read(path: Path = path) -> None:
            for _ in open_vcf(path).records():
                pass

        def split(path: Path = path) -> None:
            reader = AlleleReader(fasta, ContigMap(fasta.names))
            for record in open_vcf(path).records():
                reader.split(record, 0)

        yield f"VCF records read, {kind}", count, read
        yield f"VCF records read, split and normalized, {kind}", count, split


def row_rates(folder: Path) -> Iterator[tuple[str, int, Callable[[], Any]]]:
    """Cases of writing rows of one statistic."""
    import numpy as np

    from gexpr.results import Track, Variant
    from gexpr.writers.output import AtomicOutput
    from gexpr.writers.parts import Part, write_part
    from gexpr.writers.scores import ScoreSchema, open_writer

    generator = np.random.default_rng(3)
    for width, many in ((4, 40_960), (5313, 1_024)):
        tracks = tuple(Track(i, f"track_{i}", f"track {i}") for i in range(width))
        for dtype in ("float32", "float16"):
            values = generator.normal(0, 0.1, (many, width)).astype(dtype)
            variants = [
                Variant(i, i + 1, "chr1", i + 1, f"rs{i}", "A", "C", "ok", "chr1", i, "A", "C")
                for i in range(many)
            ]
            schema = ScoreSchema(tracks, ("logFC",), {}, dtype)

            def write(
                format: str,
                count: int,
                values: Any = values,
                variants: list[Any] = variants,
                schema: ScoreSchema = schema,
            ) -> None:
                with AtomicOutput(str(folder / f"rows.{format}"), force=True) as output:
                    writer = open_writer(output, format, schema)
                    for low in range(0, count, _BLOCK_ROWS):
                        rows = slice(low, low + _BLOCK_ROWS)
                        writer.write(variants[rows], {"logFC": values[rows]})
                    writer.commit()

            def part(values: Any = values) -> None:
                for low in range(0, len(values), 4096):
                    write_part(folder / "000000.part", Part({"logFC": values[low : low + 4096]}, {}))

            def parquet(values: Any = values, names: Sequence[str] = [t.id for t in tracks]) -> None:
                import pyarrow
                import pyarrow.parquet

                kind = pyarrow.from_numpy_dtype(values.dtype)
                columns = pyarrow.schema([(name, kind) for name in names])
                with pyarrow.parquet.ParquetWriter(folder / "rows.parquet", columns) as file:
                    for low in range(0, len(values), 4096):
                        block = values[low : low + 4096]
                        arrays = [pyarrow.array(np.ascontiguousarray(column)) for column in block.T]
                        file.write_table(pyarrow.table(arrays, schema=columns))

            what = f"rows of {width:,} tracks, {dtype}"
            fewer = many if width == 4 else many // 4
            yield f"{what}, part of a run", many, part
            yield f"{what}, HDF5", many, lambda write=write, many=many: write("hdf5", many)
            yield f"{what}, TSV", fewer, lambda write=write, fewer=fewer: write("tsv", fewer)
            try:
                import pyarrow.parquet  # noqa: F401
            except ImportError:
                print(f"# {what}, Parquet: pyarrow is not installed")
            else:
                yield f"{what}, Parquet by pyarrow (not gexpr's)", many, parquet


def measure_rates(options: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """Time every case, all of them once in each repeat; print medians."""
    import peers

    from gexpr.genome.fasta import Fasta

    genome = draw_genome(folder, 8_000_000)
    fasta = Fasta(genome["plain"])
    records = 50_000
    vcf = draw_vcf(folder, fasta, records)
    cases = [*window_rates(genome), *record_rates(fasta, vcf, records), *row_rates(folder)]
    times: dict[str, list[float]] = {name: [] for name, _, _ in cases}
    for _ in range(options.repeats):
        for name, _, work in cases:
            times[name].append(peers.timed(work)[0])
    print("what\ta second")
    rows = []
    for name, count, _ in cases:
        rate = count / peers.median(times[name])
        print(name, f"{rate:,.0f}", sep="\t", flush=True)
        rows.append({"what": name, "count": count, "seconds": times[name]})
    return rows


# --- share ---------------------------------------------------------------------------------


def example_vcf(folder: Path, alleles: int | None) -> str:
    """The packaged VCF, or one with its first records."""
    from gexpr.genome.examples import resolve_vcf

    if alleles is None:
        return "example"
    with gzip.open(resolve_vcf("example"), "rt") as file:
        lines = file.readlines()
    head = [line for line in lines if line.startswith("#")]
    path = folder / "first.vcf"
    path.write_text("".join(lines[: len(head) + alleles]))
    return str(path)


def drawn_checkpoint(folder: Path, length: int) -> str:
    """An Enformer-size checkpoint with drawn weights."""
    import peers

    from gexpr import checkpoints
    from gexpr.results import Track

    model = peers.drawn_enformer(context_length=length, target_length=min(896, length // 256))
    tracks = [Track(i, f"t{i}", f"t{i}") for i in range(sum(model.config.heads.values()))]
    checkpoints.save(folder / "enformer", model, tracks, {}, "Drawn weights of a benchmark.")
    return str(folder / "enformer")


def one_share(folder: Path, arguments: list[str]) -> dict[str, Any]:
    """Run the command once; seconds by phase."""
    report, output = folder / "report.json", folder / "scores.h5"
    output.unlink(missing_ok=True)
    command = ["score-variants", "-f", "example", "-o", str(output), "--quiet", *arguments]
    started = time.monotonic()
    child = [sys.executable, __file__, "--clocked", str(report), str(started), *command]
    subprocess.run(child, check=True, stderr=subprocess.DEVNULL)
    ended = time.monotonic()
    record: dict[str, Any] = json.loads(report.read_text())
    assert record["code"] == 0
    record["seconds"]["end of the process"] = ended - record.pop("ended")
    record["wall"] = ended - started
    return record


def measure_share(name: str, arguments: list[str], repeats: int, folder: Path) -> dict[str, Any]:
    """Print the median seconds of every phase, and its share of the whole."""
    import peers

    # The first run fills the cache with the genome's index.
    runs = [one_share(folder, arguments) for _ in range(repeats)]
    wall = peers.median([run["wall"] for run in runs])
    print(f"\n{name}: {wall:.1f} s from start to end\nphase\tseconds\tshare")
    phases = sorted({phase for run in runs for phase in run["seconds"]})
    found = {phase: peers.median([run["seconds"].get(phase, 0.0) for run in runs]) for phase in phases}
    for phase, seconds in sorted(found.items(), key=lambda item: -item[1]):
        print(phase, f"{seconds:.2f}", f"{seconds / wall:.1%}", sep="\t")
    for phase in sorted({phase for run in runs for phase in run["overlapped"]}):
        seconds = peers.median([run["overlapped"].get(phase, 0.0) for run in runs])
        print(f"{phase} (in another thread)", f"{seconds:.2f}", "-", sep="\t", flush=True)
    return {"name": name, "runs": runs}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=("rates", "share"))
    parser.add_argument("--repeats", type=int, default=3, help="of the rates; the whole command runs once")
    parser.add_argument("--runs", type=int, default=1, help="of the whole command")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--alleles", type=int, help="records of the packaged example; default all")
    parser.add_argument("--enformer", action="store_true", help="also a drawn Enformer-size checkpoint")
    parser.add_argument("--length", type=int, default=196_608, help="context of --enformer")
    parser.add_argument("--variants", type=int, default=4, help="records of --enformer")
    parser.add_argument("--json")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    import peers
    import torch

    torch.set_num_threads(options.threads)
    record: dict[str, Any] = {"machine": peers.machine()}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["GEXPR_CACHE"] = str(folder / "cache")
        if options.only != "share":
            record["rates"] = measure_rates(options, folder)
        if options.only != "rates":
            threads = ["--threads", str(options.threads)]
            arguments = ["-c", "yeast-tss", *threads, example_vcf(folder, options.alleles)]
            record["share"] = [measure_share("yeast-tss, packaged example", arguments, options.runs, folder)]
            if options.enformer:
                checkpoint = drawn_checkpoint(folder, options.length)
                arguments = ["-c", checkpoint, *threads, example_vcf(folder, options.variants)]
                name = f"Enformer-size, drawn weights, {options.variants} records"
                record["share"].append(measure_share(name, arguments, options.runs, folder))
    peers.write_json(options.json, record)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--clocked"]:
        clocked_main(sys.argv[2], float(sys.argv[3]), sys.argv[4:])
    else:
        main()
