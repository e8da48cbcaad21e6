"""The public conformance files, one after another through ``gexpr score-variants`` and a tiny checkpoint.

Each file gets a genome made of its own contigs and REF alleles. What must come out is worked out from the
file's bytes with the standard library alone.
"""

from __future__ import annotations

import os
import random
import re
from pathlib import Path
from typing import NamedTuple

from child import Child

MAX_CONTIG = 3_000_000
"""Longest contig that is made for a file; alleles beyond it get the status ``past_contig_end``."""
MARGIN = 1000

_FILLER = "".join(random.Random(11).choices("ACGT", k=1 << 16)).encode()
_LETTERS = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ*-")


class Finding(NamedTuple):
    """What became of a file: ``scored`` or ``refused``, the message without place and values, and what is
    wrong with that; no faults when it is as it must be.
    """

    path: Path
    outcome: str
    reason: str
    alleles: int
    faults: list[str]


def corpus_files(data: Path) -> list[Path]:
    """Every file of the corpora, in a fixed order."""
    return sorted(path for path in (data / "corpora").rglob("*") if path.is_file())


def data_lines(raw: bytes) -> list[list[bytes]]:
    """Columns of the lines that are neither blank nor start with ``#``."""
    lines = raw.split(b"\n")
    return [line.split(b"\t") for line in lines if line.strip(b"\r") and not line.startswith(b"#")]


def write_genome(raw: bytes, path: Path) -> None:
    """A FASTA in which every REF stands where the VCF says, as far as a FASTA can hold it."""
    placed: dict[str, list[tuple[int, bytes]]] = {"none": []}
    for fields in data_lines(raw):
        name = fields[0].decode("utf-8", "replace")
        if len(fields) > 3 and fields[1].isdigit() and len(fields[1]) < 18 and name and name.isprintable():
            if not re.search(r"\s", name):
                placed.setdefault(name, []).append((int(fields[1]), fields[3].upper()))
    with open(path, "wb") as file:
        for name, alleles in placed.items():
            ends = [pos + len(ref) for pos, ref in alleles if pos + len(ref) + MARGIN < MAX_CONTIG]
            length = max(ends, default=0) + MARGIN
            bases = bytearray((_FILLER * (length // len(_FILLER) + 1))[:length])
            for pos, ref in alleles:
                if 0 < pos and pos + len(ref) <= length and _LETTERS.issuperset(ref):
                    bases[pos - 1 : pos - 1 + len(ref)] = ref
            file.write(b">" + name.encode() + b"\n")
            file.writelines(bytes(bases[at : at + 60]) + b"\n" for at in range(0, length, 60))


def examine(path: Path, checkpoint: Path, folder: Path, child: Child) -> Finding:
    """Score one file in the child and judge what came of it.

    Args:
        path: the file.
        checkpoint: a checkpoint folder.
        folder: takes the genome and the output; its ``out`` is empty again afterwards.
        child: does the work.
    """
    raw = path.read_bytes()
    (folder / "out").mkdir(exist_ok=True)
    write_genome(raw, folder / "genome.fa")
    output = folder / "out" / "scores.tsv"
    answer = child.ask(
        "gexpr",
        arguments=[
            *("score-variants", "-c", str(checkpoint), "-f", str(folder / "genome.fa"), "-o", str(output)),
            *("--max-ref-mismatch", "1", "--allow-unknown-contigs", "--no-rc", "--batch-size", "4"),
            *("--device", "cpu", str(path)),
        ],
    )
    if answer["outcome"] != "accepted":
        return Finding(path, answer["outcome"], "", 0, [f"{answer['outcome']}: {answer['message']}"])
    left = sorted(os.listdir(folder / "out"))
    alleles = sum(fields[4].count(b",") + 1 for fields in data_lines(raw) if len(fields) > 4)
    faults = []
    errors = [line for line in answer["stderr"].splitlines() if line.startswith("error: ")]
    if "Traceback" in answer["stderr"]:
        faults.append(f"a traceback: {answer['stderr']}")
    if answer["exit_code"] == 0:
        rows = output.read_bytes().split(b"\n")[1:-1] if left == ["scores.tsv"] else []
        if left != ["scores.tsv"] or errors:
            faults.append(f"exit 0, but {errors} and {left}")
        if len(rows) != alleles or any(row.count(b"\t") != 9 for row in rows):
            faults.append(f"{len(rows)} rows, the file has {alleles} ALT alleles")
        outcome, reason = "scored", ""
    else:
        outcome, reason = (
            "refused",
            re.sub(r"'[^']*'|\"[^\"]*\"|\d+", "_", errors[0].split(": ", 2)[2]) if errors else "",
        )
        place = rf"error: {re.escape(str(path))}(, (line|byte) \d+)?: "
        found = re.match(place, errors[0]) if len(errors) == 1 else None
        if answer["exit_code"] != 1 or found is None:
            faults.append(f"exit {answer['exit_code']}: {answer['stderr']}")
        elif found[1] is None and raw:
            faults.append(f"without a place: {errors[0]}")
        if left:
            faults.append(f"left behind: {left}")
    for name in left:
        (folder / "out" / name).unlink()
    return Finding(path, outcome, reason, alleles, faults)
