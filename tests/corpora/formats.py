"""The formats that users hand over: a good file of each, how its reader is asked, and what it must find.

What a damaged file must be read as is worked out here from its bytes, with the standard library alone.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from child import Child
from mutants import BYTES, TEXT, Mutation, mutate

Answer = dict[str, Any]
RECORDS = 60


class Mutant(NamedTuple):
    """What became of a damaged file: the outcome of its task, and what is wrong with it."""

    mutation: str
    outcome: str
    faults: list[str]


class Format(NamedTuple):
    """One kind of file.

    Attributes:
        name: of the format.
        task: the task of :mod:`child` that reads it.
        good: the undamaged content.
        mutations: how it is damaged.
        store: turns (damaged) content into the bytes of the file.
        expected: the answer that the stored bytes must get, where they are accepted; None where they must
            be refused; without the keys that do not matter.
    """

    name: str
    task: str
    good: bytes
    mutations: tuple[Mutation, ...]
    store: Callable[[bytes], bytes]
    expected: Callable[[bytes], Answer | None]


def same(data: bytes) -> bytes:
    """The bytes themselves."""
    return data


def bgzf(data: bytes, block: int = 700) -> bytes:
    """BGZF with small blocks, so that small files have several."""
    out = b""
    for at in [*range(0, len(data), block), len(data)]:
        piece = data[at : at + block]
        engine = zlib.compressobj(6, zlib.DEFLATED, -15)
        body = engine.compress(piece) + engine.flush()
        head = b"\x1f\x8b\x08\x04\0\0\0\0\0\xff\x06\0BC\x02\0" + struct.pack("<H", len(body) + 25)
        out += head + body + struct.pack("<II", zlib.crc32(piece), len(piece))
    return out


def unpacked(raw: bytes) -> bytes | None:
    """The content of a stored file; None where its compression is damaged."""
    if raw[:2] != b"\x1f\x8b":
        return raw
    try:
        return gzip.decompress(raw)
    except (OSError, EOFError, zlib.error):
        return None


def vcf_content(raw: bytes) -> Answer | None:
    """Records and ALT alleles, if every line could be one; more reasons to refuse are the reader's own."""
    content = unpacked(raw)
    if content is None or not content.startswith(b"##fileformat=VCF") or b"\0" in content:
        return None
    lines = [line for line in content.split(b"\n") if line.strip(b"\r") and not line.startswith(b"#")]
    fields = [line.split(b"\t") for line in lines]
    if any(len(each) < 8 or not each[1].isdigit() for each in fields):
        return None
    return {"records": len(lines), "alleles": sum(each[4].count(b",") + 1 for each in fields)}


def bcf_content(raw: bytes) -> Answer | None:
    """Records of a BCF, by their stated lengths."""
    content = unpacked(raw)
    if content is None or content[:4] != b"BCF\x02" or len(content) < 9:
        return None
    at = 9 + struct.unpack_from("<I", content, 5)[0]
    records = alleles = 0
    while at < len(content):
        if at + 32 > len(content):
            return None
        shared, individual = struct.unpack_from("<II", content, at)
        count = struct.unpack_from("<I", content, at + 24)[0] >> 16
        records, alleles = records + 1, alleles + max(count - 1, 1)
        at += 8 + shared + individual
    return {"records": records, "alleles": alleles} if at == len(content) else None


def as_text(raw: bytes) -> str:
    """UTF-8 or Latin-1."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def bed_content(raw: bytes) -> Answer | None:
    """Lines that are neither blank nor comments."""
    content = unpacked(raw)
    if not content or b"\0" in content:
        return None
    words = [as_text(line).split() for line in content.split(b"\n")]
    return {"records": sum(bool(w) and w[0][0] != "#" and w[0] not in ("track", "browser") for w in words)}


def fasta_content(raw: bytes) -> Answer | None:
    """Names and upper-case sequences."""
    content = unpacked(raw)
    if not content or not content.startswith(b">"):
        return None
    sequences: dict[str, str] = {}
    for record in content[1:].split(b"\n>"):
        head, _, rest = record.partition(b"\n")
        name = (head.split() or [b""])[0]
        bases = rest.replace(b"\n", b"").replace(b"\r", b"").upper().decode("latin-1")
        text = as_text(name)
        if not text or text in sequences:
            return None
        sequences[text] = bases
    return {"sequences": sequences}


def aliases_content(raw: bytes) -> Answer | None:
    """The pairs of names, of which the last of the same first name counts."""
    content = unpacked(raw)
    if not content or b"\0" in content:
        return None
    lines = [as_text(line).strip() for line in content.split(b"\n")]
    pairs = [line.split("\t") for line in lines if line and line[0] != "#"]
    return {"aliases": {pair[0].strip(): pair[-1].strip() for pair in pairs}}


def tracks_content(raw: bytes) -> Answer | None:
    """Lines behind the header, but for blank ones at the end."""
    return {"records": len(raw.rstrip(b"\r\n\t ").split(b"\n")) - 1}


def good_vcf(samples: int = 2) -> bytes:
    """Records of many kinds, with samples."""
    columns = ["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO", "FORMAT"]
    lines = [
        "##fileformat=VCFv4.3",
        "##contig=<ID=chr1,length=100000>",
        "##contig=<ID=chr2,length=100000>",
        '##INFO=<ID=X,Number=1,Type=String,Description="x">',
        '##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">',
        "\t".join([*columns, *(f"s{i}" for i in range(samples))]),
    ]
    alts = ("C", "C,G", "<DEL>", "*", "ACGT", "A,ACC,<NON_REF>", ".")
    for i in range(RECORDS):
        fields = [f"chr{1 + i // 40}", f"{i + 1}", f"rs{i}", "A" * (1 + i % 3), alts[i % 7], ".", "."]
        lines.append("\t".join([*fields, f"X=v{i * 7919}", "GT", *["0|1"] * samples]))
    return ("\n".join(lines) + "\n").encode()


def good_bcf(text: bytes, folder: Path) -> bytes:
    """The content of a BCF, not compressed."""
    import pysam.bcftools

    source, target = folder / "base.vcf", folder / "base.bcf"
    source.write_bytes(text)
    pysam.bcftools.view("--no-version", "-Ob", "-o", str(target), str(source), catch_stdout=False)
    return gzip.decompress(target.read_bytes())


def good_bed() -> bytes:
    """BED6 with a header."""
    rows = [f"chr1\t{i * 10}\t{i * 10 + 7}\tn{i}\t0\t{'+-.'[i % 3]}" for i in range(RECORDS)]
    return ("track name=x\n# comment\n" + "\n".join(rows) + "\n").encode()


def good_fasta() -> bytes:
    """Three sequences in lines of 50."""
    lines = []
    for name, length in (("chr1 words", 1203), ("chr2", 50), ("chrM", 7)):
        text = "".join("ACGTacgtN"[(i * i + i // 7) % 9] for i in range(length))
        lines += [f">{name}", *(text[i : i + 50] for i in range(0, length, 50))]
    return ("\n".join(lines) + "\n").encode()


def formats(folder: Path) -> list[Format]:
    """All formats; ``folder`` takes what their making needs."""
    vcf, bed, fasta = good_vcf(), good_bed(), good_fasta()
    bcf = good_bcf(vcf, folder)
    aliases = ("# names\n" + "".join(f"NC_{i}\tchr{i}\n" for i in range(RECORDS))).encode()
    header = "index\tid\tlabel\tassay\tcell_type\tstrand\tstrand_pair\tscale\ttransform\n"
    rows = [f"{i}\tt{i}\tTrack {i}\tCAGE\tHeLa\t+\t{i}\t1.5\tcount\n" for i in range(12)]
    tracks = (header + "".join(rows)).encode()
    pack = gzip.compress
    return [
        Format("VCF", "vcf", vcf, TEXT, same, vcf_content),
        Format("VCF in gzip", "vcf", pack(vcf, mtime=0), BYTES, same, vcf_content),
        Format("VCF in BGZF", "vcf", bgzf(vcf), BYTES, same, vcf_content),
        Format("VCF, compressed after the damage", "vcf", vcf, TEXT, bgzf, vcf_content),
        Format("BCF", "vcf", bgzf(bcf), BYTES, same, bcf_content),
        Format("BCF, compressed after the damage", "vcf", bcf, BYTES, bgzf, bcf_content),
        Format("BED", "bed", bed, TEXT, same, bed_content),
        Format("BED in gzip", "bed", pack(bed, mtime=0), BYTES, same, bed_content),
        Format("FASTA", "fasta", fasta, TEXT, same, fasta_content),
        Format("FASTA in gzip", "fasta", pack(fasta, mtime=0), BYTES, same, fasta_content),
        Format("FASTA in BGZF", "fasta", bgzf(fasta), BYTES, same, fasta_content),
        Format("contig aliases", "aliases", aliases, TEXT, same, aliases_content),
        Format("tracks.tsv", "tracks", tracks, TEXT, same, tracks_content),
    ]


def examine_mutant(form: Format, number: int, folder: Path, child: Child) -> Mutant:
    """Read the damaged file of this number and hold what was found against what is there."""
    mutation, damaged = mutate(form.good, f"{form.name} {number}", form.mutations)
    raw = form.store(damaged)
    path = folder / "mutant"
    path.write_bytes(raw)
    cache = {"cache": str(folder / "cache")} if form.task == "fasta" else {}
    answer = child.ask(form.task, path=str(path), **cache)
    outcome, expected = answer["outcome"], form.expected(raw)
    faults = []
    if outcome == "accepted":
        found = {key: answer[key] for key in (expected or answer)}
        if found != expected:
            faults.append(f"read {found}, the file holds {expected}"[:1000])
    elif outcome != "refused":
        faults.append(f"{outcome}: {answer['message']}")
    elif not (
        str(path) in answer["message"] and answer["message"].isprintable() and len(answer["message"]) < 1000
    ):
        faults.append(
            f"a message that is not one short line with the file's name: {answer['message']!r}"[:1000]
        )
    elif raw == b"" and "empty" not in answer["message"]:
        faults.append(answer["message"])
    return Mutant(mutation, outcome, faults)
