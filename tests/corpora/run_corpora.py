"""All files of the public corpora through ``gexpr score-variants``, and damaged files through the readers.

    GEXPR_TEST_DATA=FOLDER python tests/corpora/run_corpora.py --all
    python tests/corpora/run_corpora.py --mutants 5000

prints a table of outcomes, then every fault with its file, and ends with the time it took; the exit code is 1
if there was a fault. The tests take a sample of the same.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
sys.path[:0] = [str(FOLDER), str(FOLDER.parent), str(FOLDER.parents[1])]

from child import Child  # noqa: E402
from corpus import corpus_files, examine  # noqa: E402
from formats import examine_mutant, formats  # noqa: E402
from toy_models import save_tiny_checkpoint  # noqa: E402


def run_files(
    data: Path, folder: Path, child: Child, step: int
) -> tuple[Counter[tuple[str, ...]], list[str]]:
    """Every ``step``-th file: (folder, outcome, reason) -> files, and faults."""
    checkpoint = save_tiny_checkpoint(folder / "tiny")
    table: Counter[tuple[str, ...]] = Counter()
    faults = []
    for path in corpus_files(data)[::step]:
        found = examine(path, checkpoint, folder, child)
        kind = "/".join(path.relative_to(data).parts[-3:-1]) + ("" if path.suffix else " (no suffix)")
        table[kind, found.outcome, found.reason] += 1
        faults += [f"{path}: {fault}" for fault in found.faults]
    return table, faults


def run_mutants(count: int, folder: Path, child: Child) -> tuple[Counter[tuple[str, ...]], list[str]]:
    """``count`` damaged files of every format: (format, outcome) -> files, and faults."""
    table: Counter[tuple[str, ...]] = Counter()
    faults = []
    for form in formats(folder):
        for number in range(count):
            found = examine_mutant(form, number, folder, child)
            table[form.name, found.outcome] += 1
            faults += [f"{form.name} {number} ({found.mutation}): {fault}" for fault in found.faults]
    return table, faults


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--all", action="store_true", help="every file of the corpora")
    parser.add_argument("--every", type=int, metavar="N", help="every N-th file of the corpora")
    parser.add_argument("--mutants", type=int, metavar="N", help="N damaged files of every format")
    given = parser.parse_args()
    step = 1 if given.all else given.every
    data = os.environ.get("GEXPR_TEST_DATA")
    if not step and not given.mutants:
        parser.error("nothing to do: give --all, --every N or --mutants N")
    if step and not data:
        parser.error("GEXPR_TEST_DATA does not name the folder that holds corpora/")
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as name, Child() as child:
        folder = Path(name)
        os.environ["GEXPR_CACHE"] = str(folder / "cache")
        parts = []
        if step:
            parts.append(run_files(Path(str(data)), folder, child, step))
        if given.mutants:
            parts.append(run_mutants(given.mutants, folder, child))
    faults = []
    for table, found in parts:
        for key, count in sorted(table.items()):
            print(f"{count:6,}  {'  '.join(part for part in key if part)}")
        print(f"{sum(table.values()):6,}  in all")
        faults += found
    for fault in faults:
        print(f"FAULT {fault}")
    print(f"{len(faults)} faults; {child.starts} child processes; {time.monotonic() - started:.0f} s")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
