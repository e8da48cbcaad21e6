"""Every kind of bad input at the command line: what the user is told, and that nothing is left behind.

The readers' own tests go deeper; here each kind goes through a whole command once. A refusal is exit
code 1, one line on stderr with the place of the fault, no traceback, no output and no unfinished file.

    input                                           answer                         tests
    ----------------------------------------------- ------------------------------ -------------------------
    compressed: no end marker, a cut or corrupt     file and offset, no output     test_damaged_bgzf_...,
    block, gzip cut short (VCF, BCF, BED, FASTA,                                   test_gzip_cut_short_...
    aliases; a file or standard input)
    VCF: cut mid-line, columns, POS, empty alleles, file and line                  test_bad_vcf: BAD_VCF
    NUL, header, ``#`` between records, 0 bytes, BOM
    VCF: header only                                exit 0, empty output, warning  test_header_only
    VCF: blank lines at the end, CRLF, lower case,  accepted                       test_accepted_vcf:
    IDs, unsorted, no contig lines, gzip, Latin-1                                  ACCEPTED_VCF
    VCF: no line end at the end                     accepted, warning              test_a_missing_line_end_...
    VCF: ``*``, ``<DEL>``, breakends, ``.``, IUPAC, a row with NaN and a status    test_alleles_that_...
    REF = ALT, long insertion, REF mismatch,
    unknown contig, POS 0, past the end
    VCF: too many alleles that do not fit           stop with the likely cause     test_too_many_...
    BED: track, browser, ``#``, blank lines, spaces accepted                       test_accepted_bed
    BED: empty or reversed intervals and others     file and line                  test_bad_bed: BAD_BED
    FASTA: foreign, damaged, ambiguous; its index   file and line                  test_bad_fasta: BAD_FASTA,
                                                                                   test_a_stale_index_...
    checkpoint: truncated, flipped, pickled, NaN,   which; nothing is executed     test_bad_checkpoint:
    tensors, shapes, foreign files                                                 BAD_CHECKPOINT
    missing, unreadable, folders, pipes, addresses  which                          test_paths_that_...
    outputs: exist, cannot be written, are inputs   which; an old one survives     test_an_output_...
    memory or disk give out                         finished blocks stay           test_out_of_memory_...,
                                                                                   test_a_disk_...
"""

from __future__ import annotations

import gzip
import json
import os
import pickle
import resource
import shutil
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from toy_models import save_tiny_checkpoint, write_fasta, write_vcf

from gexpr.cli.main import main
from gexpr.scoring.members import Member
from gexpr.writers.output import BgzfFile

HEADER = b"##fileformat=VCFv4.3\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
HTML = b"<!DOCTYPE html>\n<html><body>404 Not Found</body></html>\n"
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n"
OTHER = {"A": "C", "C": "G", "G": "T", "T": "A"}


class Inputs(NamedTuple):
    folder: Path
    sequence: str
    body: bytes

    @property
    def vcf(self) -> bytes:
        return HEADER + self.body


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inputs]:
    """tiny/, g.fa, v.vcf: a checkpoint, a genome and three records that can be scored."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("bad-input")
    sequence = "".join(np.random.default_rng(5).choice(list("ACGT"), 1500))
    save_tiny_checkpoint(folder / "tiny")
    write_fasta(folder / "g.fa", {"chr1": sequence})
    records = [("chr1", i + 1, f"v{i}", sequence[i], OTHER[sequence[i]]) for i in (300, 700, 1100)]
    vcf = write_vcf(folder / "v.vcf", records)
    yield Inputs(folder, sequence, vcf.read_bytes().split(b"INFO\n")[1])
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GEXPR_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Where outputs go; nothing else is in it."""
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def call(
    good: Inputs, command: str, given: str | Path, output: str | Path, *arguments: str, **settings
) -> Result:
    fixed = ["-c", str(good.folder / "tiny"), "-f", str(good.folder / "g.fa"), "-o", str(output)]
    quick = ["--device", "cpu", "--batch-size", "4", "--no-rc"]
    return CliRunner().invoke(main, [command, *fixed, *quick, *arguments, str(given)], **settings)


def refused(result: Result, out: Path, *words: str, left: Sequence[str] = ()) -> None:
    """Exit code 1, one line that holds all ``words``, and nothing but ``left`` in the folder."""
    assert result.exit_code == 1, result.output
    lines = result.stderr.splitlines()
    assert lines[-1].startswith("error: ") and sum(line.startswith("error: ") for line in lines) == 1
    for word in words:
        assert word in lines[-1], lines[-1]
    assert "Traceback" not in result.output and "unexpected" not in result.output
    assert lines[-1].isprintable() and len(lines[-1]) < 1000
    assert result.stdout == "" and os.listdir(out) == list(left)


def accepted(result: Result, output: Path) -> list[list[str]]:
    """The table's rows without its header, with exit code 0."""
    assert result.exit_code == 0, result.output
    assert "error" not in result.stderr and "Traceback" not in result.output
    return [line.split("\t") for line in output.read_text().splitlines()[1:]]


def bgzip(content: bytes, path: Path) -> bytes:
    with open(path, "wb") as file:
        writer = BgzfFile(file)
        for start in range(0, len(content), 200):
            writer._submit(content[start : start + 200])
        writer.finish()
    return path.read_bytes()


def block_starts(raw: bytes) -> list[int]:
    starts, at = [], 0
    while at < len(raw):
        starts.append(at)
        at += struct.unpack_from("<H", raw, at + 16)[0] + 1
    return starts


def no_end_marker(raw: bytes) -> tuple[bytes, int]:
    return raw[:-28], len(raw) - 28


def cut_at_a_block(raw: bytes) -> tuple[bytes, int]:
    middle = block_starts(raw)[2]
    return raw[:middle], middle


def cut_inside_a_block(raw: bytes) -> tuple[bytes, int]:
    middle = block_starts(raw)[2]
    return raw[: middle + 40], middle


def corrupt_block(raw: bytes) -> tuple[bytes, int]:
    middle = block_starts(raw)[1]
    return raw[: middle + 30] + bytes([raw[middle + 30] ^ 8]) + raw[middle + 31 :], middle


BGZF_DAMAGE = [no_end_marker, cut_at_a_block, cut_inside_a_block, corrupt_block]


# --- damaged compression ---------------------------------------------------------------------------


def bcf(vcf: bytes, folder: Path) -> bytes:
    """The content of a BCF, not compressed."""
    import pysam.bcftools

    source, target = folder / "source.vcf", folder / "source.bcf"
    source.write_bytes(vcf.replace(b"#CHROM", b"##contig=<ID=chr1,length=1500>\n#CHROM"))
    pysam.bcftools.view("--no-version", "-Ob", "-o", str(target), str(source), catch_stdout=False)
    return gzip.decompress(target.read_bytes())


@pytest.mark.parametrize("damage", BGZF_DAMAGE)
@pytest.mark.parametrize("stdin", [False, True])
@pytest.mark.parametrize("form", ["vcf", "bcf"])
@pytest.mark.parametrize("output", ["a.h5", "a.tsv.gz"])
def test_damaged_bgzf_variants(
    damage: Callable[[bytes], tuple[bytes, int]],
    stdin: bool,
    form: str,
    output: str,
    good: Inputs,
    tmp_path: Path,
    out: Path,
) -> None:
    content = good.vcf + good.body * 60
    raw, offset = damage(bgzip(content if form == "vcf" else bcf(content, tmp_path), tmp_path / "v.gz"))
    (tmp_path / "v.gz").write_bytes(raw)
    if stdin:
        result = call(good, "score-variants", "-", out / output, input=raw)
    else:
        result = call(good, "score-variants", tmp_path / "v.gz", out / output)
    refused(result, out, f"{'standard input' if stdin else 'v.gz'}, byte {offset}: ", "again")


def test_bcf_is_read(good: Inputs, tmp_path: Path) -> None:
    """The undamaged one gives what the VCF gives."""
    bgzip(bcf(good.vcf, tmp_path), tmp_path / "v.bcf")
    given = tmp_path / "v.bcf", good.folder / "v.vcf"
    one, other = (
        accepted(call(good, "score-variants", path, tmp_path / f"{i}.tsv"), tmp_path / f"{i}.tsv")
        for i, path in enumerate(given)
    )
    assert one == other and len(one) == 3


@pytest.mark.parametrize("cut", [1, 8, 30])
@pytest.mark.parametrize("stdin", [False, True])
def test_gzip_cut_short_vcf(cut: int, stdin: bool, good: Inputs, tmp_path: Path, out: Path) -> None:
    raw = gzip.compress(good.vcf + good.body * 30)[:-cut]
    (tmp_path / "v.vcf.gz").write_bytes(raw)
    given = "-" if stdin else tmp_path / "v.vcf.gz"
    result = call(good, "score-variants", given, out / "a.tsv", input=raw if stdin else None)
    place = "standard input" if stdin else "v.vcf.gz"
    refused(result, out, f"{place}, byte {len(raw)}: ", "cut short", "again")


@pytest.mark.parametrize("damage", BGZF_DAMAGE)
@pytest.mark.parametrize("kind", ["BED", "aliases"])
def test_damaged_bgzf_tables(
    damage: Callable[[bytes], tuple[bytes, int]], kind: str, good: Inputs, tmp_path: Path, out: Path
) -> None:
    content = b"chr1\t10\t90\n" * 200 if kind == "BED" else b"".join(b"n%d\tchr1\n" % i for i in range(200))
    raw, offset = damage(bgzip(content, tmp_path / "t.gz"))
    (tmp_path / "t.gz").write_bytes(raw)
    if kind == "BED":
        result = call(good, "predict", tmp_path / "t.gz", out / "a.h5")
    else:
        aliases = "--contig-aliases", str(tmp_path / "t.gz")
        result = call(good, "score-variants", good.folder / "v.vcf", out / "a.h5", *aliases)
    refused(result, out, f"t.gz, byte {offset}: ", "again")


@pytest.mark.parametrize("kind", ["BED", "FASTA", "aliases"])
def test_gzip_cut_short_tables(kind: str, good: Inputs, tmp_path: Path, out: Path) -> None:
    content = {
        "BED": b"chr1\t10\t90\n" * 200,
        "FASTA": b">chr1\n" + good.sequence.encode() + b"\n",
        "aliases": b"one\tchr1\n" * 200,
    }[kind]
    raw = gzip.compress(content)[:-4]
    (tmp_path / "t.gz").write_bytes(raw)
    if kind == "BED":
        result = call(good, "predict", tmp_path / "t.gz", out / "a.h5")
    else:
        option = "-f" if kind == "FASTA" else "--contig-aliases"
        result = call(
            good, "score-variants", good.folder / "v.vcf", out / "a.h5", option, str(tmp_path / "t.gz")
        )
    refused(result, out, f"t.gz, byte {len(raw)}: ", "cut short", "again")


@pytest.mark.parametrize("damage", BGZF_DAMAGE)
def test_damaged_bgzf_fasta(
    damage: Callable[[bytes], tuple[bytes, int]], good: Inputs, tmp_path: Path, out: Path
) -> None:
    raw, offset = damage(bgzip((good.folder / "g.fa").read_bytes(), tmp_path / "bad.fa.gz"))
    (tmp_path / "bad.fa.gz").write_bytes(raw)
    given = good.folder / "v.vcf", out / "a.h5", "-f", str(tmp_path / "bad.fa.gz")
    if damage is cut_inside_a_block:
        offset = len(raw)  # the end is looked at first
    refused(call(good, "score-variants", *given), out, f"bad.fa.gz, byte {offset}: ", "again")


# --- VCF ----------------------------------------------------------------------------------------

BAD_VCF: dict[str, tuple[bytes, int | None, str]] = {
    # name: content ({} is the good body), line, words
    "cut in the middle of a line": (HEADER + b"{}chr1\t50", 6, "ends in the middle of this line"),
    "cut after a column": (HEADER + b"{}chr1\t50\t.\tA\tC\t.", 6, "cut short; copy or make it again"),
    "too few columns": (HEADER + b"chr1\t50\t.\tA\n{}", 3, "4 column(s) where the #CHROM line has 8"),
    "too many columns": (HEADER + b"chr1\t50\t.\tA\tC\t.\t.\t.\tGT\n", 3, "9 column(s) where"),
    "columns separated by spaces": (HEADER + b"chr1 50 . A C . . .\n", 3, "VCF needs tabs"),
    "POS is a word": (HEADER + b"{}chr1\tten\t.\tA\tC\t.\t.\t.\n", 6, "POS 'ten' is not a whole number"),
    "POS is a fraction": (HEADER + b"chr1\t1.5\t.\tA\tC\t.\t.\t.\n", 3, "POS '1.5' is not a whole number"),
    "POS is negative": (HEADER + b"chr1\t-5\t.\tA\tC\t.\t.\t.\n", 3, "POS '-5' is not a whole number"),
    "POS has an exponent": (HEADER + b"chr1\t1e6\t.\tA\tC\t.\t.\t.\n", 3, "POS '1e6' is not a whole number"),
    "POS is empty": (HEADER + b"chr1\t\t.\tA\tC\t.\t.\t.\n", 3, "POS '' is not a whole number"),
    "POS has other digits": (
        HEADER + "chr1\t٣٤\t.\tA\tC\t.\t.\t.\n".encode(),
        3,
        "is not a whole number",
    ),
    "POS is enormous": (HEADER + b"chr1\t" + b"9" * 25 + b"\t.\tA\tC\t.\t.\t.\n", 3, "POS has 25 digits"),
    "empty CHROM": (HEADER + b"\t50\t.\tA\tC\t.\t.\t.\n", 3, "CHROM is empty"),
    "empty REF": (HEADER + b"chr1\t50\t.\t\tC\t.\t.\t.\n", 3, "REF is empty"),
    "empty ALT": (HEADER + b"chr1\t50\t.\tA\t\t.\t.\t.\n", 3, "ALT is empty"),
    "an empty ALT among others": (HEADER + b"chr1\t50\t.\tA\tC,,G\t.\t.\t.\n", 3, "an empty allele in ALT"),
    "NUL byte": (HEADER + b"{}chr1\t50\t.\tA\tC\0\t.\t.\t.\n", 6, "a NUL byte"),
    "NUL byte in the header": (b"##fileformat=VCFv4.3\n##a=\0\n" + HEADER[21:], 2, "a NUL byte"),
    "no ##fileformat": (HEADER[21:] + b"{}", 1, "the first line must be ##fileformat=VCFv4.x"),
    "no #CHROM": (b"##fileformat=VCFv4.3\n{}", 2, "#CHROM POS ID REF ALT QUAL FILTER INFO is missing"),
    "nothing behind ##": (b"##fileformat=VCFv4.3\n##source=x\n", 2, "ends before the line #CHROM"),
    "#CHROM without columns": (b"##fileformat=VCFv4.3\n#CHROM\tPOS\n", 2, "tab-separated columns"),
    "a # line between records": (HEADER + b"{}#comment\n{}", 6, "starts with '#' among the records"),
    "a second header": (HEADER + b"{}" + HEADER, 6, "starts with '#' among the records"),
    "a blank line between records": (HEADER + b"{}\n{}", 6, "a blank line between records"),
    "0 bytes": (b"", None, "the file is empty (0 bytes)"),
    "BOM": (b"\xef\xbb\xbf" + HEADER + b"{}", 1, "byte order mark (BOM); save it as UTF-8 without BOM"),
    "UTF-16": ((HEADER.decode()).encode("utf-16"), None, "UTF-16 text; save it as UTF-8"),
    "a web page": (HTML, None, "a web page (HTML/XML); a download probably failed: fetch it again"),
    "a Git LFS pointer": (LFS, None, "a Git LFS pointer, not the file itself; run `git lfs pull`"),
    "a zip archive": (b"PK\x03\x04" + bytes(60), None, "a zip archive; unpack it first"),
    "random bytes": (bytes(range(1, 256)), 1, "this is not a VCF"),
    "a blank line in the header": (HEADER.replace(b"#CHROM", b"\n#CHROM"), 2, "a blank line in the header"),
    "a carriage return in an ID": (
        HEADER + b"chr1\t50\ta\rb\tA\tC\t.\t.\t.\n",
        3,
        "a carriage return inside",
    ),
    "text on the terminal": (HEADER + b"chr1\t\x1b[2J\t.\tA\tC\t.\t.\t.\n", 3, r"POS '\x1b[2J' is not a"),
    "a table with commas": (b"chrom,pos,ref,alt\nchr1,5,A,C\n", 1, "this is not a VCF"),
    "line ends of old": (HEADER.replace(b"\n", b"\r"), 1, "lines end with carriage returns alone"),
}


@pytest.mark.parametrize("name", BAD_VCF)
@pytest.mark.parametrize("stdin", [False, True])
def test_bad_vcf(name: str, stdin: bool, good: Inputs, tmp_path: Path, out: Path) -> None:
    content, line, words = BAD_VCF[name]
    (tmp_path / "bad.vcf").write_bytes(content.replace(b"{}", good.body))
    if stdin:
        result = call(good, "score-variants", "-", out / "a.h5", input=(tmp_path / "bad.vcf").read_bytes())
    else:
        result = call(good, "score-variants", tmp_path / "bad.vcf", out / "a.h5")
    place = "standard input" if stdin else "bad.vcf"
    refused(result, out, f"{place}: " if line is None else f"{place}, line {line}: ", words)


def test_a_fault_behind_many_good_records_leaves_nothing(good: Inputs, tmp_path: Path, out: Path) -> None:
    """Everything before it could have been scored; nothing is, and nothing goes to standard output."""
    (tmp_path / "bad.vcf").write_bytes(HEADER + good.body * 700 + b"chr1\tx\t.\tA\tC\t.\t.\t.\n")
    result = call(good, "score-variants", tmp_path / "bad.vcf", "-")
    refused(result, out, "bad.vcf, line 2103: ", "POS 'x'")


@pytest.mark.parametrize("output", ["a.h5", "a.tsv", "a.tsv.gz", "-"])
@pytest.mark.parametrize("stdin", [False, True])
def test_header_only(output: str, stdin: bool, good: Inputs, tmp_path: Path) -> None:
    (tmp_path / "empty.vcf").write_bytes(HEADER)
    given = "-" if stdin else tmp_path / "empty.vcf"
    place = output if output == "-" else tmp_path / output
    result = call(good, "score-variants", given, place, "--quiet", input=HEADER if stdin else None)
    assert result.exit_code == 0
    assert result.stderr == "warning: the VCF has a header but no records; the output will be empty\n"
    assert not list(tmp_path.glob("*.run"))
    if output == "-":
        assert len(result.stdout.splitlines()) == 1
    elif output == "a.h5":
        with h5py.File(tmp_path / output) as file:
            assert file["logFC"].shape == (0, 4) and file["snp"].shape == (0,)
            assert len(file["target_ids"]) == 4
    else:
        opened = gzip.open if output.endswith(".gz") else open
        with opened(tmp_path / output, "rt") as file:
            assert len(file.read().splitlines()) == 1


def contig_lines(vcf: bytes) -> bytes:
    return vcf.replace(b"#CHROM", b"##contig=<ID=chr1,length=1500>\n#CHROM")


def lower_case(vcf: bytes) -> bytes:
    lines = [line.split(b"\t") for line in vcf.split(b"\n")]
    return b"\n".join(
        b"\t".join([*fields[:3], fields[3].lower(), fields[4].lower(), *fields[5:]])
        if len(fields) > 5 and not fields[0].startswith(b"#")
        else b"\t".join(fields)
        for fields in lines
    )


def reverse_records(vcf: bytes) -> bytes:
    return HEADER + b"".join(reversed(vcf[len(HEADER) :].splitlines(keepends=True)))


ACCEPTED_VCF: dict[str, Callable[[bytes], bytes]] = {
    "blank lines at the end": lambda vcf: vcf + b"\n\n\r\n",
    "CRLF": lambda vcf: vcf.replace(b"\n", b"\r\n"),
    "lower-case alleles": lower_case,
    "contig lines in the header": contig_lines,
    "duplicate IDs": lambda vcf: vcf.replace(b"v700", b"v300"),
    "unsorted": reverse_records,
    "plain gzip": gzip.compress,
    "Latin-1 IDs": lambda vcf: vcf.replace(b"v700", b"v\xe9\xff"),
    "samples": lambda vcf: vcf.replace(b"INFO\n", b"INFO\tFORMAT\tS1\n").replace(
        b"\t.\t.\t.\n", b"\t.\t.\t.\tGT\t0/1\n"
    ),
}


@pytest.mark.parametrize("name", ACCEPTED_VCF)
def test_accepted_vcf(name: str, good: Inputs, tmp_path: Path) -> None:
    expected = accepted(
        call(good, "score-variants", good.folder / "v.vcf", tmp_path / "a.tsv"), tmp_path / "a.tsv"
    )
    (tmp_path / "v.vcf").write_bytes(ACCEPTED_VCF[name](good.vcf))
    rows = accepted(call(good, "score-variants", tmp_path / "v.vcf", tmp_path / "b.tsv"), tmp_path / "b.tsv")
    if name == "unsorted":
        rows.reverse()
    assert [row[5:] for row in rows] == [row[5:] for row in expected]
    if name == "Latin-1 IDs":
        assert rows[1][2] == "véÿ"
    if name == "lower-case alleles":
        assert all(row[3].islower() and row[4].islower() for row in rows)


def test_a_missing_line_end_is_warned_of(good: Inputs, tmp_path: Path) -> None:
    """It may be an editor's, or all that tells of a file that was cut short."""
    (tmp_path / "v.vcf").write_bytes(good.vcf[:-1])
    result = call(good, "score-variants", tmp_path / "v.vcf", tmp_path / "a.tsv", "--quiet")
    assert len(accepted(result, tmp_path / "a.tsv")) == 3
    assert result.stderr.startswith(
        "warning: line 5, the last of the VCF, has no line end; if the file was cut"
    )


def test_alleles_that_cannot_be_scored_are_rows(good: Inputs, tmp_path: Path) -> None:
    s = good.sequence
    at = 500
    records = [
        (at + 1, s[at], "*", "star_allele"),
        (at + 1, s[at], "<DEL>", "symbolic_alt"),
        (at + 1, s[at], "<NON_REF>", "symbolic_alt"),
        (at + 1, s[at], f"{s[at]}[chr1:900[", "breakend"),
        (at + 1, s[at], f"]chr1:900]{s[at]}", "breakend"),
        (at + 1, s[at], ".", "missing_alt"),
        (at + 1, s[at], "R", "non_acgt_alt"),
        (at + 1, s[at], s[at], "ref_equals_alt"),
        (at + 1, s[at], s[at].lower(), "ref_equals_alt"),
        (at + 1, s[at], s[at] + "ACGT" * 1000, "too_long"),
        (at + 1, OTHER[s[at]], s[at], "ref_mismatch"),
        (0, "A", "C", "pos_zero"),
        (1501, "A", "C", "past_contig_end"),
        (99999999999, "A", "C", "past_contig_end"),
        (1499, s[1498:] + "A", "C", "past_contig_end"),
        (at + 1, s[at], OTHER[s[at]], "ok"),
    ]
    write_vcf(tmp_path / "v.vcf", [("chr1", pos, ".", ref, alt) for pos, ref, alt, _ in records])
    with open(tmp_path / "v.vcf", "a") as file:
        file.write("chrUn\t5\t.\tA\tC,G\t.\t.\t.\n")
    result = call(good, "score-variants", tmp_path / "v.vcf", tmp_path / "a.tsv")
    rows = accepted(result, tmp_path / "a.tsv")
    assert [row[5] for row in rows] == [*(status for *_, status in records), *["contig_not_in_fasta"] * 2]
    assert all((row[6:] == ["nan"] * 4) == (row[5] != "ok") for row in rows)
    assert "18 alleles of 17 records read, 1 scored" in result.stderr
    assert "2 alleles lie on contigs that the FASTA lacks: chrUn (2)" in result.stderr
    hdf5 = call(good, "score-variants", tmp_path / "v.vcf", tmp_path / "a.h5")
    assert hdf5.exit_code == 0
    with h5py.File(tmp_path / "a.h5") as file:
        assert file["status"].asstr()[:].tolist() == [row[5] for row in rows]
        nan = np.isnan(file["logFC"][:])
        assert (nan.all(axis=1) == nan.any(axis=1)).all()
        assert nan.any(axis=1).tolist() == [row[5] != "ok" for row in rows]
    strict = call(good, "score-variants", tmp_path / "v.vcf", tmp_path / "b.tsv", "--strict")
    assert strict.exit_code == 3
    assert (tmp_path / "a.tsv").read_bytes() == (tmp_path / "b.tsv").read_bytes()


def test_what_a_vcf_says_does_not_reach_the_terminal(good: Inputs, tmp_path: Path, out: Path) -> None:
    """IDs, contigs and alleles that would move its cursor are kept in the output and escaped in messages."""
    s, escape = good.sequence, "\x1b[2J\x9b"
    records = [("chr1", i + 1, escape, s[i], OTHER[s[i]]) for i in (300, 301)]
    write_vcf(tmp_path / "v.vcf", [*records, (escape, 5, ".", "A", "C")])
    result = call(good, "score-variants", tmp_path / "v.vcf", tmp_path / "a.tsv")
    assert [row[2] for row in accepted(result, tmp_path / "a.tsv")] == [escape, escape, "."]
    assert all(line.isprintable() for line in result.stderr.splitlines())
    assert r"lies on contigs that the FASTA lacks: '\x1b[2J\x9b' (1)" in result.stderr
    assert result.stderr.count(r"\x1b[2J\x9b  ") == 2  # the strongest effects
    write_vcf(tmp_path / "v.vcf", [("chr1", 301, ".", OTHER[s[300]] + escape, s[300])] * 120)
    refused(call(good, "score-variants", tmp_path / "v.vcf", out / "a.h5"), out, "do not fit the FASTA")
    write_vcf(tmp_path / "v.vcf", [(escape * 900, 301, ".", "A", "C")] * 120)
    refused(call(good, "score-variants", tmp_path / "v.vcf", out / "a.h5"), out, r"lacks: '\x1b[2J")


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("mismatch", "REF and ALT are swapped; use the FASTA that the VCF was made from"),
        ("0-based", "POS is 0-based"),
        ("past the end", "past the contig's end: 120"),
        ("unknown contig", "--contig-aliases"),
        ("half unknown", "add --allow-unknown-contigs"),
    ],
)
def test_too_many_alleles_that_do_not_fit_stop_the_run(
    kind: str, words: str, good: Inputs, tmp_path: Path, out: Path
) -> None:
    s = good.sequence
    records = []
    for i in range(300, 420):
        if kind == "mismatch":
            records.append(("chr1", i + 1, ".", OTHER[s[i]], s[i]))
        elif kind == "past the end":
            records.append(("chr1", i + 5000, ".", "A", "C"))
        else:
            chrom = "NC_1" if kind == "unknown contig" or (kind == "half unknown" and i % 2) else "chr1"
            records.append((chrom, i + (kind != "0-based"), ".", s[i], OTHER[s[i]]))
    write_vcf(tmp_path / "v.vcf", records)
    result = call(good, "score-variants", tmp_path / "v.vcf", out / "a.h5")
    refused(result, out, "v.vcf: ", "g.fa", words)
    if kind == "half unknown":
        allowed = call(
            good, "score-variants", tmp_path / "v.vcf", tmp_path / "a.tsv", "--allow-unknown-contigs"
        )
        rows = accepted(allowed, tmp_path / "a.tsv")
        assert sum(row[5] == "ok" for row in rows) == 60 and len(rows) == 120


# --- BED ----------------------------------------------------------------------------------------

BAD_BED: dict[str, tuple[bytes, int | None, str]] = {
    "zero length": (b"chr1\t1\t90\nchr1\t50\t50\n", 2, "zero-length interval chr1:50-50"),
    "reversed": (b"track x\nchr1\t60\t50\n", 2, "reversed interval chr1:60-50"),
    "two columns": (b"chr1\t50\n", 1, "2 column(s) where BED needs at least three"),
    "start is a word": (b"#c\n\nchr1\ta\t50\n", 3, "start 'a' is not a whole number"),
    "start is negative": (b"chr1\t-1\t50\n", 1, "start '-1' is not a whole number"),
    "end is a fraction": (b"chr1\t1\t5.5\n", 1, "end '5.5' is not a whole number"),
    "strand is a word": (b"chr1\t1\t5\ta\t0\tplus\n", 1, "strand 'plus' in column 6"),
    "unknown contig": (b"chrX\t1\t5\n", 1, "the FASTA has no contig 'chrX' (it has chr1)"),
    "past the end": (b"chr1\t1\t1501\n", 1, "reaches past the end of the contig (1,500 bp)"),
    "NUL byte": (b"chr1\t1\t5\0\n", 1, "a NUL byte"),
    "0 bytes": (b"", None, "the file is empty (0 bytes)"),
    "a web page": (HTML, None, "a web page"),
    "BOM": (b"\xef\xbb\xbfchr1\t1\t50\n", 1, "byte order mark (BOM); save it as UTF-8 without BOM"),
    "UTF-16": ("chr1\t1\t50\n".encode("utf-16"), None, "UTF-16 text; save it as UTF-8"),
    "a Git LFS pointer": (LFS, None, "run `git lfs pull`"),
    "commas": (b"chr1,1,50\n", 1, "1 column(s) where BED needs at least three"),
    "an enormous end": (b"chr1\t1\t" + b"9" * 30 + b"\n", 1, "is not a whole number of bases"),
    "no chromosome": (b"\t1\t5\n", 1, "the chromosome name is empty"),
    "text on the terminal": (b"chr1\t\x1b[2J\t5\n", 1, r"start '\x1b[2J' is not a whole number"),
}


@pytest.mark.parametrize("name", BAD_BED)
def test_bad_bed(name: str, good: Inputs, tmp_path: Path, out: Path) -> None:
    content, line, words = BAD_BED[name]
    (tmp_path / "bad.bed").write_bytes(content)
    result = call(good, "predict", tmp_path / "bad.bed", out / "a.h5")
    refused(result, out, "bad.bed" if line is None else f"bad.bed, line {line}: ", words)


def test_accepted_bed(good: Inputs, tmp_path: Path) -> None:
    text = b"track name=x\nbrowser position chr1\n# c\n\nchr1\t10\t90\ta\t5\t-\r\n1 100 120 b\n \n"
    (tmp_path / "r.bed").write_bytes(text)
    rows = accepted(call(good, "predict", tmp_path / "r.bed", tmp_path / "a.tsv"), tmp_path / "a.tsv")
    assert [row[:5] for row in rows] == [["chr1", "10", "90", "a", "-"], ["1", "100", "120", "b", "."]]
    (tmp_path / "none.bed").write_bytes(b"# nothing\n")
    result = call(good, "predict", tmp_path / "none.bed", tmp_path / "b.h5")
    assert result.exit_code == 0 and "no regions; the output is empty" in result.stderr
    with h5py.File(tmp_path / "b.h5") as file:
        assert len(file["chrom"]) == 0 and file["predictions"].shape[0] == 0


# --- FASTA --------------------------------------------------------------------------------------

BAD_FASTA: dict[str, tuple[bytes, str]] = {
    "0 bytes": (b"", "bad.fa: the file is empty (0 bytes)"),
    "a web page": (HTML, "bad.fa: this is not a FASTA file but a web page"),
    "a Git LFS pointer": (LFS, "run `git lfs pull`"),
    "BOM": (
        b"\xef\xbb\xbf>chr1\nACGT\n",
        "bad.fa, line 1: this is not a FASTA file but text that starts with a byte",
    ),
    "UTF-16": (">chr1\nACGT\n".encode("utf-16"), "UTF-16 text; save it as UTF-8"),
    "NUL byte": (b">chr1\nAC\0GT\n", r"bad.fa, line 2: '\x00' is not a letter"),
    "no header": (b"ACGT\nACGT\n", "bad.fa, line 1: this is not a FASTA file"),
    "a VCF": (HEADER, "bad.fa, line 1: this is not a FASTA file"),
    "a digit in a sequence": (b">chr1\nACGT\nAC7T\n", "bad.fa, line 3: '7' is not a letter of a sequence"),
    "a name that occurs twice": (b">chr1\nACGT\n>chr1\nAC\n", "line 3: the record name 'chr1' occurs twice"),
    "a record without a name": (b">chr1\nACGT\n>\nAC\n", "line 3: a FASTA header without a name"),
    "bzip2": (b"BZh91AY&SY" + bytes(60), "compressed with bzip2; decompress it, or recompress it with bgzip"),
}


@pytest.mark.parametrize("name", BAD_FASTA)
def test_bad_fasta(name: str, good: Inputs, tmp_path: Path, out: Path) -> None:
    content, words = BAD_FASTA[name]
    (tmp_path / "bad.fa").write_bytes(content)
    given = good.folder / "v.vcf", out / "a.h5", "-f", str(tmp_path / "bad.fa")
    refused(call(good, "score-variants", *given), out, words)


def test_a_stale_index_is_not_believed(good: Inputs, tmp_path: Path) -> None:
    shutil.copy(good.folder / "g.fa", tmp_path / "g.fa")
    (tmp_path / "g.fa.fai").write_text("chr1\t1400\t0\t60\t61\n")
    plain = accepted(
        call(good, "score-variants", good.folder / "v.vcf", tmp_path / "a.tsv"), tmp_path / "a.tsv"
    )
    given = good.folder / "v.vcf", tmp_path / "b.tsv", "-f", str(tmp_path / "g.fa")
    result = call(good, "score-variants", *given)
    assert accepted(result, tmp_path / "b.tsv") == plain
    assert "g.fa.fai does not fit the FASTA" in result.stderr


def test_a_cache_that_cannot_be_made(good: Inputs, tmp_path: Path, out: Path, monkeypatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("GEXPR_CACHE", str(tmp_path / "file" / "cache"))
    result = call(good, "score-variants", good.folder / "v.vcf", out / "a.h5")
    refused(result, out, "g.fa: ", "set GEXPR_CACHE to a writable folder")


# --- checkpoint -----------------------------------------------------------------------------------


def weights(folder: Path) -> Path:
    return folder / "model.safetensors"


def change_weights(change: Callable[[dict], None]) -> Callable[[Path], None]:
    """Rewrite the tensors and sign them, so that only the change itself can be the fault."""

    def damage(folder: Path) -> None:
        from safetensors.torch import load_file, save_file

        from gexpr.checkpoints.weights import sha256

        tensors = load_file(weights(folder))
        change(tensors)
        save_file(tensors, weights(folder))
        config = json.loads((folder / "config.json").read_text())
        config["weights_sha256"] = sha256(weights(folder))
        (folder / "config.json").write_text(json.dumps(config))

    return damage


def first(tensors: dict) -> str:
    return next(name for name in tensors if name.endswith("weight"))


def flip(folder: Path) -> None:
    raw = bytearray(weights(folder).read_bytes())
    raw[-5] ^= 1
    weights(folder).write_bytes(raw)


def claim(folder: Path) -> None:
    raw = weights(folder).read_bytes()
    size = struct.unpack("<Q", raw[:8])[0]
    header = json.loads(raw[8 : 8 + size])
    header[first(header)]["shape"] = [1 << 30, 1 << 30]
    text = json.dumps(header).encode()
    weights(folder).write_bytes(struct.pack("<Q", len(text)) + text + raw[8 + size :])


class Stowaway:
    """Unpickled, it would make a folder."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def pickled(folder: Path) -> None:
    weights(folder).write_bytes(pickle.dumps(Stowaway(str(folder / "executed"))))


def torch_saved(folder: Path) -> None:
    torch.save({"weight": torch.zeros(3)}, weights(folder))


BAD_CHECKPOINT: dict[str, tuple[Callable[[Path], object], str]] = {
    "truncated": (lambda f: weights(f).write_bytes(weights(f).read_bytes()[:-100]), "truncated"),
    "bit flipped": (flip, "SHA-256"),
    "pickled": (pickled, "refused: a pickled PyTorch file"),
    "torch.save": (torch_saved, "refused: a pickled PyTorch file"),
    "NaN": (change_weights(lambda t: t[first(t)].view(-1)[:1].fill_(float("nan"))), "are NaN"),
    "Inf": (change_weights(lambda t: t[first(t)].view(-1)[:1].fill_(float("inf"))), "are infinite"),
    "missing tensor": (change_weights(lambda t: t.pop(first(t))), "are missing"),
    "extra tensor": (change_weights(lambda t: t.update(more=torch.zeros(2))), "do not belong"),
    "claimed shape": (claim, "claims shape [1073741824, 1073741824]"),
    "a web page": (lambda f: weights(f).write_bytes(HTML), "an HTML page"),
    "a Git LFS pointer": (lambda f: weights(f).write_bytes(LFS), "a Git LFS pointer"),
    "pickled beside": (
        lambda f: weights(f).rename(f / "model.pt"),
        "model.pt: refused: a pickled PyTorch file",
    ),
    "another shape": (
        change_weights(lambda t: t.update({first(t): t[first(t)][:1].clone()})),
        "the settings in",
    ),
    "a folder": (lambda f: (weights(f).unlink(), weights(f).mkdir()), "model.safetensors is missing"),
    "config of 1 TB": (lambda f: os.truncate(f / "config.json", 1 << 40), "is too large for a config.json"),
    "context of 10^12": (
        lambda f: (f / "config.json").write_text(
            (f / "config.json")
            .read_text()
            .replace('"context_length": 512', '"context_length": 1000000000000')
        ),
        "context_length 1000000000000 cannot be",
    ),
    "no weights": (lambda f: weights(f).unlink(), "model.safetensors is missing"),
    "no config": (lambda f: (f / "config.json").unlink(), "config.json is missing"),
    "no tracks": (lambda f: (f / "tracks.tsv").unlink(), "tracks.tsv is missing"),
    "config is no JSON": (lambda f: (f / "config.json").write_text("{"), "not JSON"),
}


@pytest.mark.parametrize("name", BAD_CHECKPOINT)
def test_bad_checkpoint(name: str, good: Inputs, tmp_path: Path, out: Path) -> None:
    damage, words = BAD_CHECKPOINT[name]
    folder = Path(shutil.copytree(good.folder / "tiny", tmp_path / "net"))
    damage(folder)
    before = sorted(os.listdir(folder))
    (tmp_path / "r.bed").write_text("chr1\t10\t90\n")
    for given in (("score-variants", good.folder / "v.vcf"), ("predict", tmp_path / "r.bed")):
        refused(call(good, *given, out / "a.h5", "-c", str(folder)), out, str(folder), words)
    refused(CliRunner().invoke(main, ["inspect", "--verify", str(folder)]), out, str(folder), words)
    assert sorted(os.listdir(folder)) == before  # nothing was executed


def test_a_pickled_file_as_the_checkpoint(good: Inputs, tmp_path: Path, out: Path) -> None:
    (tmp_path / "model.pt").write_bytes(pickle.dumps(Stowaway(str(tmp_path / "executed"))))
    given = good.folder / "v.vcf", out / "a.h5", "-c", str(tmp_path / "model.pt")
    refused(call(good, "score-variants", *given), out, "model.pt: refused: a pickled PyTorch file")
    assert not (tmp_path / "executed").exists()


# --- paths ------------------------------------------------------------------------------------------


def given_as(kind: str, path: str, good: Inputs, out: Path) -> Result:
    """A run in which one of the inputs is this path."""
    if kind == "BED":
        return call(good, "predict", path, out / "a.tsv")
    if kind == "VCF":
        return call(good, "score-variants", path, out / "a.tsv")
    option = {"FASTA": "-f", "checkpoint": "-c", "aliases": "--contig-aliases"}[kind]
    return call(good, "score-variants", good.folder / "v.vcf", out / "a.tsv", option, path)


KINDS = ["VCF", "BED", "FASTA", "aliases", "checkpoint"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "address",
    ["https://example.org/a.gz", "http://x/a", "ftp://x/a", "s3://bucket/a", "gs://b/a", "file:///a"],
)
def test_paths_that_are_addresses(kind: str, address: str, good: Inputs, out: Path) -> None:
    refused(given_as(kind, address, good, out), out, address, "on this machine; download it first")


@pytest.mark.parametrize("kind", KINDS)
def test_paths_that_lead_to_no_file(kind: str, good: Inputs, tmp_path: Path, out: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "dangling").symlink_to("nothing")
    is_checkpoint = kind == "checkpoint"
    for name, words in (
        ("absent", "no checkpoint" if is_checkpoint else "no such file"),
        ("dangling", "no checkpoint" if is_checkpoint else "no such file"),
        ("loop", "no checkpoint" if is_checkpoint else "Too many levels of symbolic links"),
        ("x" * 300, "File name too long"),
        ("out", "config.json is missing" if is_checkpoint else "this is a folder"),
        ("", "no checkpoint" if is_checkpoint else "this is a folder"),
    ):
        refused(
            given_as(kind, str(tmp_path / name) if name or not is_checkpoint else "", good, out), out, words
        )


@pytest.mark.parametrize("kind", ["VCF", "BED", "FASTA", "aliases"])
def test_paths_that_cannot_be_read(kind: str, good: Inputs, tmp_path: Path, out: Path) -> None:
    (tmp_path / "secret").write_bytes(good.vcf)
    (tmp_path / "secret").chmod(0)
    if os.access(tmp_path / "secret", os.R_OK):
        pytest.skip("this user reads everything")
    refused(
        given_as(kind, str(tmp_path / "secret"), good, out),
        out,
        "secret: cannot be opened: Permission denied",
    )


@pytest.mark.parametrize("kind", ["FASTA", "aliases"])
def test_paths_that_are_devices(kind: str, good: Inputs, out: Path) -> None:
    refused(given_as(kind, "/dev/null", good, out), out, "/dev/null: ")


# --- the environment ------------------------------------------------------------------------------


def test_out_of_memory_names_the_batch_size(good: Inputs, out: Path, monkeypatch) -> None:
    def fail(*_arguments: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    monkeypatch.setattr(Member, "predict", fail)
    result = call(good, "score-variants", good.folder / "v.vcf", out / "a.h5")
    refused(result, out, "out of memory", "smaller --batch-size", left=["a.h5.run"])


@pytest.mark.parametrize("output", ["a.h5", "a.tsv", "a.tsv.gz"])
@pytest.mark.parametrize("room", ["for nothing", "for the blocks"])
def test_a_disk_that_is_full(output: str, room: str, good: Inputs, tmp_path: Path, out: Path) -> None:
    """A limit on the size of files stands in for the disk; finished blocks are kept and used afterwards."""
    s = good.sequence
    write_vcf(tmp_path / "v.vcf", [("chr1", i + 1, f"v{i}", s[i], OTHER[s[i]]) for i in range(300, 900)])
    given = "score-variants", tmp_path / "v.vcf"
    accepted(call(good, *given, tmp_path / "warm.tsv"), tmp_path / "warm.tsv")  # fills the cache
    limit = 512 if room == "for nothing" else 8192
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        result = call(good, *given, out / output, "--block-rows", "30")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    if room == "for nothing":
        refused(result, out, f"cannot write {out / output}.run/manifest.json: ", "too large")
        return
    refused(result, out, f"cannot write {out / output}: ", "too large", left=[f"{output}.run"])
    again = call(good, *given, out / output)
    assert again.exit_code == 0 and "continuing: 20 of 20 blocks are finished" in again.stderr
    if output == "a.tsv":
        assert (out / output).read_bytes() == (tmp_path / "warm.tsv").read_bytes()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_device_that_takes_nothing(good: Inputs, out: Path) -> None:
    result = call(good, "score-variants", good.folder / "v.vcf", "/dev/full", "--format", "tsv")
    refused(result, out, "cannot write /dev/full: No space left on device")


def test_an_output_that_was_there_survives(good: Inputs, tmp_path: Path, out: Path) -> None:
    """Without --force whatever happens, with it when the run fails."""
    (out / "a.tsv").write_text("precious\n")
    (tmp_path / "bad.vcf").write_bytes(good.vcf[:-9])
    for given in (tmp_path / "bad.vcf", good.folder / "v.vcf"):
        result = call(good, "score-variants", given, out / "a.tsv")
        refused(result, out, "a.tsv exists", "--force", left=["a.tsv"])
    result = call(good, "score-variants", tmp_path / "bad.vcf", out / "a.tsv", "--force")
    refused(result, out, "bad.vcf, line 5: ", left=["a.tsv"])
    assert (out / "a.tsv").read_text() == "precious\n"
    result = call(good, "score-variants", good.folder / "v.vcf", out / "a.tsv", "--force")
    assert len(accepted(result, out / "a.tsv")) == 3


@pytest.mark.parametrize("kind", ["VCF", "FASTA", "aliases"])
def test_an_output_that_is_an_input_is_refused(kind: str, good: Inputs, tmp_path: Path) -> None:
    content = {"VCF": good.vcf, "FASTA": (good.folder / "g.fa").read_bytes(), "aliases": b"a\tb\n"}[kind]
    (tmp_path / "same.tsv").write_bytes(content)
    (tmp_path / "other.tsv").symlink_to("same.tsv")
    for name in ("same.tsv", "other.tsv"):
        option = {"FASTA": ["-f"], "aliases": ["--contig-aliases"]}.get(kind)
        extra = [*option, str(tmp_path / "same.tsv")] if option else []
        vcf = good.folder / "v.vcf" if option else tmp_path / "same.tsv"
        result = call(good, "score-variants", vcf, tmp_path / name, *extra, "--force")
        assert result.exit_code == 1 and "also an input" in result.stderr, result.output
        assert (tmp_path / "same.tsv").read_bytes() == content


def test_outputs_that_cannot_be_written(good: Inputs, tmp_path: Path, out: Path) -> None:
    for output, words in (
        (tmp_path / "no" / "a.tsv", "does not exist"),
        (tmp_path / "folder.tsv", "it is a folder"),
        (tmp_path / "a.xlsx", "known suffixes"),
    ):
        (tmp_path / "folder.tsv").mkdir(exist_ok=True)
        refused(call(good, "score-variants", good.folder / "v.vcf", output), out, words)


def test_a_vcf_from_a_named_pipe(good: Inputs, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    feeder = threading.Thread(target=lambda: (tmp_path / "pipe").write_bytes(good.vcf), daemon=True)
    feeder.start()
    rows = accepted(call(good, "score-variants", tmp_path / "pipe", tmp_path / "a.tsv"), tmp_path / "a.tsv")
    feeder.join(10)
    assert len(rows) == 3


def test_a_fasta_that_is_a_pipe_is_not_waited_for(good: Inputs, tmp_path: Path, out: Path) -> None:
    os.mkfifo(tmp_path / "pipe.fa")
    given = good.folder / "v.vcf", out / "a.h5", "-f", str(tmp_path / "pipe.fa")
    refused(call(good, "score-variants", *given), out, "this is a pipe or a device")


def test_what_a_shell_sees(good: Inputs, out: Path) -> None:
    """A process of its own, with standard input that ends early."""
    program = [sys.executable, "-m", "gexpr", "score-variants", "--device", "cpu", "-o", "a.h5"]
    result = subprocess.run(
        [*program, "-c", str(good.folder / "tiny"), "-f", str(good.folder / "g.fa"), "-"],
        input=good.vcf[:-9],
        cwd=out,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        timeout=300,
        check=False,
    )
    errors = result.stderr.decode()
    assert result.returncode == 1 and errors.startswith("error: standard input, line 5: ")
    assert len(errors.splitlines()) == 1 and result.stdout == b"" and os.listdir(out) == []
