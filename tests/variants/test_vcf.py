import gc
import gzip
import hashlib
import io
import os
import random
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pysam
import pysam.bcftools
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gexpr.errors import InputError
from gexpr.variants.vcf import VcfRecord, open_vcf
from gexpr.writers.output import BgzfFile

Write = Callable[..., Path]
RECORD = b"chr1\t5\trs1\tA\tC\t.\t.\t.\n"


def records(path: Path | str) -> list[VcfRecord]:
    return list(open_vcf(path).records())


def bgzip(path: Path) -> Path:
    target = Path(f"{path}.gz")
    pysam.tabix_compress(str(path), str(target), force=True)
    return target


def many(count: int) -> bytes:
    """Records of several BGZF blocks."""
    draw = random.Random(1)
    noise = ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=60)) for _ in range(200)]
    return b"".join(
        f"chr1\t{i}\trs{i}\tA\tC,G\t.\t.\tX={noise[i * 7919 % 200]}\n".encode() for i in range(1, count + 1)
    )


# --- accepted ------------------------------------------------------------------------------


def test_five_columns_as_they_are_spelt(write: Write) -> None:
    path = write(b"chr1\t5\trs1;x\ta\tC,<DEL>,*\t.\t.\t.\n2\t0\t.\tAC\t.\t30\tq\tA=1\n")
    assert records(path) == [
        VcfRecord(3, "chr1", 5, "rs1;x", "a", ("C", "<DEL>", "*"), "."),
        VcfRecord(4, "2", 0, ".", "AC", (".",)),
    ]


def test_accepted_oddities(write: Write, header: bytes) -> None:
    expected = [VcfRecord(3, "chr1", 5, "rs1", "A", ("C",))]
    for body in (RECORD, RECORD[:-1], RECORD + b"\n\n", RECORD + b"\r\n", RECORD + b"\n", RECORD + b"\n\n\r"):
        assert records(write(body)) == expected
    crlf = (header + RECORD + b"\n").replace(b"\n", b"\r\n")
    assert records(write(header=crlf)) == expected
    assert open_vcf(write(header=crlf)).header[-1].endswith("INFO")


def test_ids_in_latin1_utf8_empty_and_duplicate(write: Write) -> None:
    body = b"".join(
        b"1\t5\t%s\tA\tC\t.\t.\t.\n" % name for name in (b"caf\xe9", b"caf\xc3\xa9", b"", b"x", b"x")
    )
    assert [record.id for record in records(write(body))] == ["café", "café", ".", "x", "x"]


def test_absurd_positions_do_not_wrap(write: Write) -> None:
    assert records(write(RECORD.replace(b"\t5\t", b"\t99999999999\t")))[0].pos == 99999999999


def test_unsorted_and_without_contig_lines(write: Write) -> None:
    body = b"".join(b"%s\t%d\t.\tA\tC\t.\t.\t.\n" % item for item in ((b"2", 9), (b"1", 5), (b"2", 1)))
    assert [(r.chrom, r.pos) for r in records(write(body))] == [("2", 9), ("1", 5), ("2", 1)]


def test_header_only(write: Write) -> None:
    source = open_vcf(write())
    assert list(source.records()) == [] and source.samples == []


def test_samples_and_contig_lengths(write: Write) -> None:
    header = (
        b"##fileformat=VCFv4.3\n##contig=<ID=chr1,length=248956422,assembly=GRCh38>\n"
        b"##contig=<length=7,ID=x>\n##contig=<ID=y>\n"
        b"#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\tone\ttwo\n"
    )
    source = open_vcf(write(b"chr1\t5\t.\tA\tC\t.\t.\t.\tGT\t0|1\t1|1\n", header=header))
    assert source.samples == ["one", "two"]
    assert source.contig_lengths == {"chr1": 248956422, "x": 7}
    assert len(list(source.records())) == 1


def test_gzip_bgzf_and_text_read_the_same_and_again(write: Write) -> None:
    path = write(many(6000))
    plain = records(path)
    assert len(plain) == 6000 and plain[-1] == VcfRecord(6002, "chr1", 6000, "rs6000", "A", ("C", "G"))
    packed = path.with_suffix(".gzip")
    packed.write_bytes(gzip.compress(path.read_bytes()))
    for other, form in ((packed, "gzip"), (bgzip(path), "bgzf")):
        source = open_vcf(other)
        assert source.format == form
        assert list(source.records()) == plain and list(source.records()) == plain


def test_a_line_longer_than_what_is_read_at_once(write: Write) -> None:
    long = b"chr1\t5\t.\tA\tC\t.\t.\t" + b"x" * 3_000_000 + b"\n"
    assert [r.line for r in records(write(RECORD + long + RECORD))] == [3, 4, 5]


def test_sha256_is_of_the_stored_bytes(write: Write) -> None:
    path = bgzip(write(RECORD))
    assert open_vcf(path).sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_standard_input_is_spooled_and_removed(
    write: Write, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    raw = bgzip(write(many(3000))).read_bytes()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(raw)))
    folder = tmp_path / "spool"
    folder.mkdir()
    source = open_vcf("-", folder)
    assert len(list(source.records())) == len(list(source.records())) == 3000
    assert source.sha256 == hashlib.sha256(raw).hexdigest()
    assert len(list(folder.iterdir())) == 1
    del source
    gc.collect()
    assert list(folder.iterdir()) == []


def test_bad_standard_input_is_named_and_removed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"rubbish\n")))
    with pytest.raises(InputError, match=r"standard input, line 1.*##fileformat"):
        open_vcf("-", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_pipe_is_spooled(tmp_path: Path, header: bytes) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(header + RECORD,))
    writer.start()
    source = open_vcf(pipe)
    writer.join()
    assert len(list(source.records())) == len(list(source.records())) == 1


# --- rejected ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"chr1\t5\trs1\tA\tC\t.\t.", r"7 column\(s\) where the #CHROM line has 8"),
        (b"chr1\t5\trs1\tA\tC\t.\t.\t.\tGT", "9 column"),
        (b"chr1 5 rs1 A C . . .", "separated by spaces"),
        (b"chr1\t5", "2 column"),
        (b"chr1", "1 column"),
        (b"#chr1\t5\trs1\tA\tC\t.\t.\t.", "starts with '#'"),
        (b"##comment", "starts with '#'"),
        (b"", "blank line between records"),
        (b"\r", "blank line between records"),
        (b"chr1\t.\trs1\tA\tC\t.\t.\t.", "POS '.'"),
        (b"chr1\t-1\trs1\tA\tC\t.\t.\t.", "POS '-1'"),
        (b"chr1\t1.0\trs1\tA\tC\t.\t.\t.", "POS '1.0'"),
        (b"chr1\t1e3\trs1\tA\tC\t.\t.\t.", "POS '1e3'"),
        (b"chr1\t \trs1\tA\tC\t.\t.\t.", "POS ' '"),
        (b"chr1\t\trs1\tA\tC\t.\t.\t.", "POS ''"),
        (b"chr1\t\xb2\trs1\tA\tC\t.\t.\t.", "POS"),
        (b"chr1\t" + b"9" * 6000 + b"\trs1\tA\tC\t.\t.\t.", "6000 digits"),
        (b"\t5\trs1\tA\tC\t.\t.\t.", "CHROM is empty"),
        (b"chr1\t5\trs1\t\tC\t.\t.\t.", "REF is empty"),
        (b"chr1\t5\trs1\tA\t\t.\t.\t.", "ALT is empty"),
        (b"chr1\t5\trs1\tA\tC,,G\t.\t.\t.", "empty allele"),
        (b"chr1\t5\trs1\tA\tC,\t.\t.\t.", "empty allele"),
        (b"chr1\t5\trs1\tA\tC\t.\t.\t\0", "NUL byte"),
        (b"chr1\r\t5\trs1\tA\tC\t.\t.\t.", "carriage return inside"),
        (b"chr1\t5\trs\r1\tA\tC\t.\t.\t.\r", "carriage return inside"),
        (b"chr1\t5\trs1\tA\tC\r,G\t.\t.\t.", "carriage return inside"),
        (b"chr1\t5\r\trs1\tA\tC\t.\t.\t.", "POS"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_bad_lines(write: Write, line: bytes, words: str, packed: bool) -> None:
    path = write(RECORD + line + b"\n" + RECORD)
    path = bgzip(path) if packed else path
    with pytest.raises(InputError, match=words) as caught:
        records(path)
    assert caught.value.line == 4 and caught.value.path == str(path)


@pytest.mark.parametrize("end", [b"chr1\t77", b"chr1\t77\t.\tA\tC\t.\t.", b"c"])
def test_text_cut_in_the_middle_of_a_line(write: Write, end: bytes) -> None:
    with pytest.raises(InputError, match="ends in the middle") as caught:
        records(write(RECORD + end))
    assert caught.value.line == 4


def test_a_last_line_without_an_end_is_remembered(write: Write) -> None:
    for body, line in (
        (RECORD + RECORD, None),
        (RECORD + RECORD[:-1], 4),
        (RECORD + b"\r\n\r", None),
        (b"", None),
    ):
        source = open_vcf(write(body))
        assert source.open_end is None
        assert len(list(source.records())) == body.count(b"chr1") and source.open_end == line


def test_text_cut_anywhere(write: Write, header: bytes) -> None:
    """An error, or a cut at a line's end, or one in the last column, which is remembered."""
    whole = header + many(12)
    read = errors = 0
    for cut in range(len(whole)):
        try:
            source = open_vcf(write(header=whole[:cut]))
            found = list(source.records())
        except InputError:
            errors += 1
            assert cut < len(header) or whole[:cut].rpartition(b"\n")[2].count(b"\t") < 7
            continue
        read += 1
        complete = whole[:cut].count(b"\n") - 2
        if cut < len(header):
            assert found == [] and cut == len(header) - 1
        elif whole[:cut].endswith(b"\n"):
            assert len(found) == complete and source.open_end is None
        else:
            assert len(found) == complete + 1 and source.open_end == complete + 3
    assert errors > 200 and read > 200


def test_compressed_text_cut_anywhere_is_an_error(write: Write, header: bytes) -> None:
    path = write(header=header + many(12))
    for raw in (gzip.compress(path.read_bytes()), bgzip(path).read_bytes()):
        for cut in range(len(raw)):
            path.write_bytes(raw[:cut])
            with pytest.raises(InputError):
                records(path)


def test_a_carriage_return_in_columns_that_are_not_read(write: Write) -> None:
    assert len(records(write(RECORD + RECORD.replace(b"\t.\n", b"\tX=a\rb\n") + RECORD))) == 3


@pytest.mark.parametrize("packed", [False, True])
def test_a_line_without_end(write: Write, packed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gexpr.variants.vcf.MAX_LINE", 5_000_000)
    assert len(records(write(RECORD + RECORD[:-1] + b"x" * 4_000_000 + b"\n"))) == 2
    path = write(RECORD + RECORD[:-1] + b"x" * 9_000_000)
    if packed:
        path.write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(InputError, match="more than 5,000,000 bytes") as caught:
        records(path)
    assert caught.value.line == 4


def test_nul_byte_far_into_a_file(write: Write) -> None:
    body = bytearray(many(20_000))
    body[-10] = 0
    with pytest.raises(InputError, match="NUL") as caught:
        records(write(bytes(body)))
    assert caught.value.line == 20_002


@pytest.mark.parametrize(
    ("content", "words", "line"),
    [
        (b"", "empty", None),
        (b"\n", "fileformat", 1),
        (b"#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n" + RECORD, "fileformat", 1),
        (b"##source=x\n##fileformat=VCFv4.2\n", "fileformat", 1),
        (b"##fileformat=BED\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n", "fileformat", 1),
        (b"##fileformat=VCFv4.2\n" + RECORD, "#CHROM .* is missing", 2),
        (b"##fileformat=VCFv4.2\n\n" + RECORD, "a blank line in the header", 2),
        (b"##fileformat=VCFv4.2\n##x=y\n", "ends before the line #CHROM", 2),
        (b"##fileformat=VCFv4.2", "ends before the line #CHROM", 1),
        (b"##fileformat=VCFv4.2\n#CHROM POS ID REF ALT QUAL FILTER INFO\n", "separated by spaces", 2),
        (b"##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\n", "must have the tab-separated columns", 2),
        (b"##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tALT\tREF\tQUAL\tFILTER\tINFO\n", "must have", 2),
        (b"##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tS1\n", "must have", 2),
        (b"\xef\xbb\xbf##fileformat=VCFv4.2\n", "byte order mark", 1),
        ("##fileformat=VCFv4.2\n".encode("utf-16"), "UTF-16", None),
        (b"##fileformat=VCFv4.2\n##x=\0\n", "NUL", 2),
        (b"<html><body>Not found</body></html>", "web page", None),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS", None),
        (b"BCF\x02\x02\0\0\0\0", "BGZF-compressed", None),
        (b"\xfd7zXZ\0", "xz", None),
    ],
)
def test_bad_headers(write: Write, content: bytes, words: str, line: int | None) -> None:
    with pytest.raises(InputError, match=words) as caught:
        open_vcf(write(header=content))
    assert caught.value.line == line


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        open_vcf(tmp_path / "absent.vcf")
    with pytest.raises(InputError, match="folder"):
        open_vcf(tmp_path)


@pytest.mark.parametrize(
    "where", ["eof_marker", "block_boundary", "mid_block", "mid_header", "flipped", "flags", "tail"]
)
def test_damaged_bgzf(write: Write, where: str) -> None:
    path = bgzip(write(many(6000)))
    raw = bytearray(path.read_bytes())
    starts = [i for i in range(len(raw)) if raw[i : i + 4] == b"\x1f\x8b\x08\x04"]
    assert len(starts) > 5
    expected = starts[3]
    if where == "eof_marker":
        raw, expected = raw[:-28], len(raw) - 28
    elif where == "block_boundary":
        raw = raw[: starts[3]]
    elif where == "mid_block":
        raw = raw[: starts[3] + 1000]
    elif where == "mid_header":
        raw = raw[: starts[3] + 7]
    elif where == "flipped":
        raw[starts[3] + 200] ^= 4
    elif where == "flags":
        raw[starts[3] + 3] |= 2  # says that a checksum of the header follows, which is not there
    else:
        raw, expected = raw + b"rubbish in the tail", len(raw)
    path.write_bytes(raw)
    with pytest.raises(InputError) as caught:
        records(path)
    assert caught.value.offset == expected and caught.value.path == str(path)


@pytest.mark.parametrize("cut", [1, 8, 1000])
def test_gzip_cut_short(write: Write, cut: int) -> None:
    path = write(many(6000))
    path.write_bytes(gzip.compress(path.read_bytes())[:-cut])
    with pytest.raises(InputError, match="cut short") as caught:
        records(path)
    assert caught.value.offset == path.stat().st_size


def test_gzip_with_a_flipped_bit(write: Write) -> None:
    path = write(many(6000))
    raw = bytearray(gzip.compress(path.read_bytes()))
    raw[-6] ^= 1
    path.write_bytes(raw)
    with pytest.raises(InputError, match="damaged"):
        records(path)


def test_a_file_that_changes_between_two_passes(write: Write) -> None:
    path = write(RECORD)
    source = open_vcf(path)
    path.write_bytes(path.read_bytes() + RECORD)
    with pytest.raises(InputError, match="changed"):
        list(source.records())


# --- BCF -----------------------------------------------------------------------------------


@pytest.fixture
def bcf(tmp_path: Path) -> Path:
    """A BCF of 3,000 records with samples, missing ALT, POS 0, long alleles and long IDs."""
    lines = [
        "##fileformat=VCFv4.2",
        "##contig=<ID=chr2,length=100000>",
        "##contig=<ID=chr1,length=100000>",
        '##INFO=<ID=X,Number=1,Type=String,Description="x">',
        '##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">',
        "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\tone\ttwo",
    ]
    for i in range(3000):
        chrom, name = "chr1" if i % 3 else "chr2", "." if i % 2 else "rs" * (i % 30 + 1)
        ref, alt = ("A", ".") if i % 5 == 0 else ("ACG" * (i % 400 + 1), "A,<DEL>")
        lines.append(f"{chrom}\t{i}\t{name}\t{ref}\t{alt}\t.\t.\tX={'x' * (i % 50 + 1)}\tGT\t0|0\t0|1")
    text = tmp_path / "source.vcf"
    text.write_text("\n".join(lines) + "\n")
    path = tmp_path / "variants.bcf"
    pysam.bcftools.view("--no-version", "-Ob", "-o", str(path), str(text), catch_stdout=False)
    return path


def test_bcf_reads_as_pysam_reads_it(bcf: Path) -> None:
    source = open_vcf(bcf)
    assert source.format == "bcf" and source.samples == ["one", "two"]
    assert source.contig_lengths == {"chr1": 100000, "chr2": 100000}
    expected = []
    with pysam.VariantFile(str(bcf)) as handle:
        for i, r in enumerate(handle, 1):
            expected.append(VcfRecord(i, r.chrom, r.pos, r.id or ".", r.ref, r.alts or (".",)))
    assert len(expected) == 3000
    assert [record._replace(info="") for record in source.records()] == expected


def test_bcf_without_its_end_marker(bcf: Path) -> None:
    bcf.write_bytes(bcf.read_bytes()[:-28])
    with pytest.raises(InputError, match="end-of-file marker"):
        records(bcf)


def test_any_damage_inside_a_bcf_is_an_input_error(bcf: Path, tmp_path: Path) -> None:
    raw = gzip.decompress(bcf.read_bytes())
    draw = random.Random(3)
    target = tmp_path / "damaged.bcf"
    errors = 0
    for _ in range(80):
        damaged = bytearray(raw[: draw.randrange(2000, 60_000)])
        for _ in range(draw.randrange(1, 4)):
            damaged[draw.randrange(len(damaged))] = draw.randrange(256)
        with pysam.BGZFile(str(target), "wb") as out:
            out.write(bytes(damaged))
        try:
            records(target)
        except InputError:
            errors += 1
    assert errors > 50


# --- anything at all -----------------------------------------------------------------------

SPELLING = st.text(
    st.characters(exclude_categories=("Cs",), exclude_characters="\t\n\r\0"), min_size=1, max_size=8
)
ALLELE = st.one_of(
    st.text("ACGTNacgtn", min_size=1, max_size=9),
    st.sampled_from(["<DEL>", "*", ".", "<NON_REF>", "G]17:198[", ".A", "<C:x>"]),
)
RECORDS = st.lists(
    st.builds(
        lambda chrom, pos, name, ref, alts, rest: (chrom, pos, name, ref, tuple(alts), rest),
        SPELLING.filter(lambda text: not text.startswith("#")),
        st.one_of(st.integers(0, 300), st.integers(0, 10**18 - 1)),
        SPELLING,
        ALLELE,
        st.lists(ALLELE, min_size=1, max_size=4),
        st.lists(SPELLING, min_size=3, max_size=3),
    ),
    max_size=12,
)


@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=RECORDS,
    end=st.sampled_from(["\n", "\r\n"]),
    tail=st.sampled_from(["", "\n", "\n\n\r\n"]),
    packing=st.sampled_from([None, "gzip", "members", "bgzf"]),
    pieces=st.integers(1, 60),
    samples=st.integers(0, 2),
)
def test_what_is_written_is_read(
    tmp_path: Path, rows: list, end: str, tail: str, packing: str | None, pieces: int, samples: int
) -> None:
    """Any records, in any storage, with either line end: as they were written, with their lines."""
    columns = ["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO"]
    columns += ["FORMAT", *"xy"[:samples]] if samples else []
    lines = ["##fileformat=VCFv4.3", "##source=x", "\t".join(columns)]
    for chrom, pos, name, ref, alts, rest in rows:
        fields = [chrom, str(pos), name, ref, ",".join(alts), *rest]
        lines.append("\t".join([*fields, *["GT", "0|1", "1|1"][: samples + 1 if samples else 0]]))
    content = (end.join(lines) + (end if tail or not rows else "") + tail).encode()
    if packing == "gzip":
        content = gzip.compress(content)
    elif packing:
        size = len(content) // pieces + 1
        parts = [content[at : at + size] for at in range(0, len(content), size)]
        if packing == "members":
            content = b"".join(map(gzip.compress, parts))
        else:
            target = io.BytesIO()
            writer = BgzfFile(target)
            for part in parts:
                writer._submit(part)
            writer.finish()
            content = target.getvalue()
    path = tmp_path / "any.vcf"
    path.write_bytes(content)
    source = open_vcf(path)
    found = list(source.records())
    assert [record[:-1] for record in found] == [(i, *row[:5]) for i, row in enumerate(rows, 4)]
    for record, row in zip(found, rows, strict=True):
        assert record.info == (row[5][2] if any("<" in alt for alt in row[4]) else "")
    assert source.samples == list("xy"[:samples])
    assert source.open_end == (len(rows) + 3 if rows and not tail else None)


def test_any_damage_to_text_is_read_or_is_an_input_error(write: Write, header: bytes) -> None:
    base = header + many(40)
    draw = random.Random(5)
    outcomes = {"read": 0, "error": 0}
    for _ in range(600):
        damaged = bytearray(base)
        for _ in range(draw.randrange(1, 5)):
            at = draw.randrange(len(damaged))
            action = draw.randrange(3)
            if action == 0:
                damaged[at] = draw.choice(b"\0\t\n\r #,<.0A\xff" + bytes([draw.randrange(256)]))
            elif action == 1:
                del damaged[at : at + draw.randrange(1, 30)]
            else:
                damaged = damaged[:at] if draw.random() < 0.2 else damaged[: at + 1] + damaged[at:]
        path = write(header=bytes(damaged))
        try:
            found = records(path)
        except InputError:
            outcomes["error"] += 1
            continue
        outcomes["read"] += 1
        lines = [
            line for line in bytes(damaged).split(b"\n") if line.strip(b"\r") and not line.startswith(b"#")
        ]
        assert len(found) == len(lines)
    assert min(outcomes.values()) > 50


@pytest.mark.data
def test_public_conformance_corpus(reference_data: Path) -> None:
    """Every file is read in full, or refused with a place; records read are the records there are."""
    folder = reference_data / "corpora" / "vcf" / "hts-specs"
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    assert len(files) > 1200
    refused = []
    for path in files:
        raw = path.read_bytes()
        try:
            found = records(path)
        except InputError as error:
            assert error.path == str(path) and (
                error.line is not None or "not a VCF" in str(error) or not raw
            )
            refused.append(path)
            continue
        lines = [line for line in raw.split(b"\n") if line.strip(b"\r") and not line.startswith(b"#")]
        assert len(found) == len(lines), path
    # Files without the suffix are the corpus of a fuzzer, documents and licences.
    assert [path for path in refused if path.suffix == ".vcf" and "failed" not in path.parts] == []
    assert 20 < len([path for path in refused if path.suffix == ".vcf"]) < 60
