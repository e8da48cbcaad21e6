"""Rate of ``gexpr score-variants`` as a whole process, on random SNVs of a genome.

Prints a TSV line: variants, threads, options, wall seconds of the whole process, variants a second
(start-up and output included), peak memory. Example::

    python tests/benchmarks/scoring_rate.py --fasta sacCer3.fa.gz --variants 10000 --threads 2
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import peers

from gexpr.genome.fasta import Fasta


def write_snvs(fasta: Fasta, count: int, seed: int, path: Path) -> None:
    """``count`` SNVs at uniform positions with a known base, sorted, as a VCF."""
    generator = random.Random(seed)
    names = list(fasta.names)
    lengths = [fasta.lengths[name] for name in names]
    sequences = {name: fasta.fetch(name, 0, fasta.lengths[name]) for name in names}
    sites: set[tuple[int, int]] = set()
    while len(sites) < count:
        contig = generator.choices(range(len(names)), weights=lengths)[0]
        position = generator.randrange(lengths[contig])
        if sequences[names[contig]][position] in "ACGT":
            sites.add((contig, position))
    with open(path, "w") as output:
        output.write("##fileformat=VCFv4.3\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n")
        for contig, position in sorted(sites):
            ref = sequences[names[contig]][position]
            alt = generator.choice([base for base in "ACGT" if base != ref])
            output.write(f"{names[contig]}\t{position + 1}\t.\t{ref}\t{alt}\t.\t.\t.\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--fasta", required=True)
    parser.add_argument("--checkpoint", default="yeast-tss")
    parser.add_argument("--variants", type=int, default=10_000)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json")
    parser.add_argument("options", nargs="*", help="further options of score-variants, after --")
    arguments = parser.parse_args()
    print("variants\tthreads\toptions\tseconds\tvariants_per_second\tpeak_MiB")
    with tempfile.TemporaryDirectory() as folder:
        vcf = Path(folder) / "random.vcf"
        write_snvs(Fasta(arguments.fasta), arguments.variants, arguments.seed, vcf)
        command = [sys.executable, "-m", "gexpr", "score-variants", "--checkpoint", arguments.checkpoint]
        command += ["--fasta", arguments.fasta, "-o", f"{folder}/scores.h5"]
        command += ["--threads", str(arguments.threads), *arguments.options, str(vcf)]
        started = time.perf_counter()
        subprocess.run(command, check=True)
        seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    options = " ".join(arguments.options) or "-"
    row = [arguments.variants, arguments.threads, options, f"{seconds:.1f}"]
    print(*row, f"{arguments.variants / seconds:.2f}", f"{peak:.0f}", sep="\t")
    record = {**vars(arguments), "seconds": seconds, "peak_MiB": peak, "machine": peers.machine()}
    peers.write_json(arguments.json, record)


if __name__ == "__main__":
    main()
