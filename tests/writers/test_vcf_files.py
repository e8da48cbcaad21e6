"""Annotated VCF: the scored file stays as it is but for entries of INFO, and others can read it."""

from __future__ import annotations

import gzip
import itertools
import random
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import cyvcf2
import numpy as np
import pysam
import pytest

from gexpr.errors import ConfigError, GexprError, InputError
from gexpr.results import Track, Variant
from gexpr.variants.vcf import open_vcf
from gexpr.writers.output import AtomicOutput
from gexpr.writers.scores import ScoreSchema, open_writer
from gexpr.writers.vcf import MANY_KEYS, info_keys

TRACKS = (
    Track(0, "wt", "Wild type"),
    Track(1, "d-1", 'Diamide, "1 mM" \\ µ'),
    Track(2, "d 1", "tab\tbreak\n"),
)
ATTRIBUTES = {
    "gexpr_version": "1.2",
    "checkpoint": "my net",
    "checkpoint_sha256": "ab12",
    "fasta": "g.fa",
    "statistics": "logFC",
}
KEYS = ("GEXPR_wt", "GEXPR_d_1", "GEXPR_d_1_2")
HEADER = (
    "##fileformat=VCFv4.3\n"
    '##INFO=<ID=DP,Number=1,Type=Integer,Description="Depth">\n'
    '##INFO=<ID=END,Number=1,Type=Integer,Description="End">\n'
    '##INFO=<ID=DB,Number=0,Type=Flag,Description="Known">\n'
    '##FILTER=<ID=PASS,Description="All filters passed">\n'
    '##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">\n'
    '##ALT=<ID=DEL,Description="Deletion">\n'
    "##contig=<ID=chr1,length=1000000>\n##contig=<ID=chr2,length=1000000>\n"
    "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\ts1\ts2\n"
)
RECORDS = (
    "chr1\t10\trs1\tA\tC\t30\tPASS\tDP=3\tGT\t0/1\t1/1\n"
    "chr1\t20\t.\tA\tC,G,T\t.\t.\t.\tGT\t0/3\t1/2\n"
    "chr1\t20\tlow\tac\ta,*\t.\tPASS\tDB;DP=9\tGT\t0/1\t./.\n"
    "chr1\t500\tdel\tG\t<DEL>\t.\tPASS\tEND=70000\tGT\t0/1\t0/0\n"
    "chr1\t600\tref\tG\t.\t.\tPASS\tDP=1\tGT\t0/0\t0/0\n"
    "chr2\t5\tmany\tG\tA,C,T,GA,GC,GT,GAA\t.\tPASS\t.\tGT\t0/7\t0/0\n"
)


def alleles(path: Path) -> list[Variant]:
    """Every allele of a VCF; sequences are ``ok``."""
    found: list[Variant] = []
    for record in open_vcf(path).records():
        for alt in record.alts:
            ok = alt != "." and set(alt.upper()) <= set("ACGT")
            status = "ok" if ok else "missing_alt" if alt == "." else "symbolic_alt"
            found.append(
                Variant(len(found), record.line, record.chrom, record.pos, record.id, record.ref, alt, status)
            )
    return found


def drawn(variants: Sequence[Variant], tracks: int, statistics: Sequence[str]) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(7)
    scores = {name: rng.normal(size=(len(variants), tracks)).astype(np.float32) for name in statistics}
    for table in scores.values():
        table[[not variant.ok for variant in variants]] = np.nan
    return scores


def annotate(
    source: Path,
    target: Path,
    *,
    tracks: Sequence[Track] = TRACKS,
    statistics: Sequence[str] = ("logFC",),
    cuts: Sequence[int] = (),
    edit: Callable[[list[Variant]], list[Variant]] = lambda variants: variants,
    dtype: str = "float32",
    force: bool = False,
    attributes: dict[str, str] = ATTRIBUTES,
) -> dict[str, np.ndarray]:
    """Write ``target``, in blocks that end at ``cuts``; returns the scores."""
    variants = edit(alleles(source))
    scores = drawn(variants, len(tracks), statistics)
    schema = ScoreSchema(tuple(tracks), tuple(statistics), attributes, dtype, {"logFC": "log2(a) - log2(r)"})
    with AtomicOutput(str(target), force=force) as output:
        writer = open_writer(output, "vcf", schema, vcf=open_vcf(source))
        try:
            for low, high in itertools.pairwise([0, *cuts, len(variants)]):
                writer.write(variants[low:high], {name: table[low:high] for name, table in scores.items()})
            writer.commit()
        finally:
            writer.discard()
    return scores


def content(path: Path) -> bytes:
    data = path.read_bytes()
    return gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data


def stripped(data: bytes, original: bytes) -> bytes:
    """What is left without our header lines and INFO entries; an INFO that they alone made was ``.``."""
    kept = []
    originals = iter([line for line in original.split(b"\n") if line[:1] not in (b"#", b"")])
    for line in data.split(b"\n"):
        if line.startswith((b"##INFO=<ID=GEXPR_", b"##gexpr=<")):
            continue
        if line[:1] not in (b"#", b"") and line.strip():
            fields = line.split(b"\t")
            before = next(originals).split(b"\t")
            assert fields[:7] + fields[8:] == before[:7] + before[8:]
            text = fields[7].removesuffix(b"\r")
            end = fields[7][len(text) :]
            if b"GEXPR_STATUS=" in text:
                place = text.index(b"GEXPR_STATUS=")
                assert all(entry.startswith(b"GEXPR_") for entry in text[place:].split(b";"))
                text = text[:place].removesuffix(b";") or b"."
                if before[7].rstrip(b"\r") in (text + b";", b""):
                    text = before[7].rstrip(b"\r")
            line = b"\t".join([*fields[:7], text + end, *fields[8:]])
        kept.append(line)
    return b"\n".join(kept)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in.vcf"
    path.write_text(HEADER + RECORDS)
    return path


def test_the_lines_that_come_out(source: Path, tmp_path: Path) -> None:
    scores = annotate(source, tmp_path / "out.vcf")["logFC"]
    lines = content(tmp_path / "out.vcf").decode().splitlines()
    start = HEADER.count("\n") - 1
    assert lines[:start] == HEADER.splitlines()[:-1] and lines[start + 5] == HEADER.splitlines()[-1]
    assert lines[start : start + 5] == [
        '##gexpr=<ID=my_net,gexpr_version="1.2",checkpoint="my net",checkpoint_sha256="ab12",fasta="g.fa",'
        'statistics="logFC">',
        '##INFO=<ID=GEXPR_STATUS,Number=A,Type=String,Description="What became of the allele: ok, or why '
        'gexpr did not score it">',
        '##INFO=<ID=GEXPR_wt,Number=A,Type=Float,Description="Wild type: logFC = log2(a) - log2(r)">',
        "##INFO=<ID=GEXPR_d_1,Number=A,Type=Float,"
        'Description="Diamide, \\"1 mM\\" \\\\ µ: logFC = log2(a) - log2(r)">',
        '##INFO=<ID=GEXPR_d_1_2,Number=A,Type=Float,Description="tab break : logFC = log2(a) - log2(r)">',
    ]
    info = [line.split("\t")[7] for line in lines if not line.startswith("#")]
    first = ";".join(f"{key}={value!s}" for key, value in zip(KEYS, scores[0], strict=True))
    assert info[0] == f"DP=3;GEXPR_STATUS=ok;{first}"
    second = ";".join(f"{k}={a!s},{b!s},{c!s}" for k, a, b, c in zip(KEYS, *scores[1:4], strict=True))
    assert info[1] == f"GEXPR_STATUS=ok,ok,ok;{second}"
    assert info[2].startswith(f"DB;DP=9;GEXPR_STATUS=ok,symbolic_alt;GEXPR_wt={scores[4, 0]!s},.;")
    assert info[3] == "END=70000;GEXPR_STATUS=symbolic_alt;GEXPR_wt=.;GEXPR_d_1=.;GEXPR_d_1_2=."
    assert info[4] == "DP=1"  # no ALT: nothing to say of one
    assert info[5].count(",") == 6 * 4
    assert "nan" not in "".join(info)


def test_several_statistics_are_named(source: Path, tmp_path: Path) -> None:
    scores = annotate(source, tmp_path / "out.vcf", statistics=("logFC", "SAD"), tracks=TRACKS[:2])
    (info,) = (line.split("\t")[7] for line in content(tmp_path / "out.vcf").decode().splitlines()[-6:-5])
    logfc, sad = scores["logFC"][0], scores["SAD"][0]
    assert info == (
        f"DP=3;GEXPR_STATUS=ok;GEXPR_logFC_wt={logfc[0]!s};GEXPR_logFC_d_1={logfc[1]!s};"
        f"GEXPR_SAD_wt={sad[0]!s};GEXPR_SAD_d_1={sad[1]!s}"
    )


def test_keys_are_distinct_and_allowed() -> None:
    ids = ["a-b", "a_b", "a b", "a_b_2", "STATUS", "é/(x)", "", "1", "ENCFF1.x"]
    tracks = tuple(Track(number, name, name) for number, name in enumerate(ids))
    keys = [each.key for each in info_keys(ScoreSchema(tracks, ("logFC",), {}))]
    assert keys == [
        *("GEXPR_a_b", "GEXPR_a_b_2", "GEXPR_a_b_3", "GEXPR_a_b_2_2", "GEXPR_STATUS_2", "GEXPR____x_"),
        *("GEXPR_", "GEXPR_1", "GEXPR_ENCFF1.x"),
    ]


@pytest.mark.parametrize("cuts", [[1, 2, 3, 5, 8], [2], list(range(1, 14)), [4, 4, 4]], ids=str)
def test_blocks_may_end_within_a_record(cuts: list[int], source: Path, tmp_path: Path) -> None:
    for name, given in (("a.vcf.gz", []), ("b.vcf.gz", cuts)):
        annotate(source, tmp_path / name, cuts=given)
    assert (tmp_path / "a.vcf.gz").read_bytes() == (tmp_path / "b.vcf.gz").read_bytes()
    assert (tmp_path / "a.vcf.gz.tbi").read_bytes() == (tmp_path / "b.vcf.gz.tbi").read_bytes()


@pytest.mark.parametrize("store", ["text", "gzip", "bgzf"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_line_ends_and_compression_of_the_input(end: str, store: str, tmp_path: Path) -> None:
    text = (HEADER + RECORDS).replace("\n", end).encode()
    source = tmp_path / "in.vcf"
    source.write_bytes(text if store == "text" else gzip.compress(text))
    if store == "bgzf":
        source.write_bytes(text)
        pysam.tabix_compress(str(source), str(tmp_path / "in.vcf.gz"))
        source = tmp_path / "in.vcf.gz"
    annotate(source, tmp_path / "out.vcf")
    data = content(tmp_path / "out.vcf")
    assert stripped(data, text) == text
    assert data.count(end.encode()) == data.count(b"\n") and data.count(b"\r") in (0, data.count(b"\n"))


@pytest.mark.parametrize(
    "body",
    [
        "chr1\t5\t.\tA\tC\t.\t.\tDP=1;\n",
        "chr1\t5\t.\tA\tC\t.\t.\t\n",
        "chr1\t5\t.\tA\tC\t.\t.\tDP=1",
        "chr1\t5\t.\tA\tC\t.\t.\t.\r\n\r\n\n",
        "",
    ],
    ids=["semicolon", "empty", "no line end", "blank lines at the end", "no records"],
)
def test_odd_lines(body: str, tmp_path: Path) -> None:
    text = "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n" + body
    (tmp_path / "in.vcf").write_bytes(text.encode())
    annotate(tmp_path / "in.vcf", tmp_path / "out.vcf")
    data = content(tmp_path / "out.vcf")
    assert stripped(data, text.encode()) == text.encode() and b";;" not in data
    assert data.count(b"GEXPR_wt=") == (1 if body else 0)


def test_latin_1_stays(tmp_path: Path) -> None:
    text = (HEADER + RECORDS).replace("rs1", "é").replace("Depth", "Tiefe µ").encode("latin-1")
    (tmp_path / "in.vcf").write_bytes(text)
    annotate(tmp_path / "in.vcf", tmp_path / "out.vcf")
    assert stripped(content(tmp_path / "out.vcf"), text) == text


def test_an_annotation_of_before_is_replaced(source: Path, tmp_path: Path) -> None:
    annotate(source, tmp_path / "once.vcf", dtype="float16")
    annotate(tmp_path / "once.vcf", tmp_path / "twice.vcf")
    annotate(source, tmp_path / "direct.vcf")
    assert content(tmp_path / "twice.vcf") == content(tmp_path / "direct.vcf")
    assert content(tmp_path / "once.vcf") != content(tmp_path / "direct.vcf")
    # That of another model stays beside it.
    other = [Track(0, "k562", "K562")]
    annotate(tmp_path / "once.vcf", tmp_path / "both.vcf", tracks=other, attributes={"checkpoint": "big"})
    data = content(tmp_path / "both.vcf").decode()
    assert data.count("##INFO=<ID=GEXPR_STATUS,") == 1 and data.count("##gexpr=<ID=") == 2
    for line in data.splitlines():
        if not line.startswith("#") and "GEXPR" in line:
            assert line.count("GEXPR_STATUS=") == line.count("GEXPR_wt=") == line.count("GEXPR_k562=") == 1


def test_cyvcf2_reads_the_scores(source: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    scores = annotate(source, tmp_path / "out.vcf.gz")["logFC"]
    file = cyvcf2.VCF(str(tmp_path / "out.vcf.gz"))
    row = 0
    for record in file:
        if not record.ALT:
            assert record.INFO.get("GEXPR_wt") is None
            row += 1
            continue
        for column, key in enumerate(KEYS):
            values = record.INFO.get(key)
            values = values if isinstance(values, tuple) else (values,)
            expected = scores[row : row + len(record.ALT), column]
            found = np.array([np.nan if value is None else value for value in values], dtype=np.float32)
            assert np.array_equal(found, expected, equal_nan=True), (record.POS, key)
        row += len(record.ALT)
    assert row == len(scores)
    assert file.get_header_type("GEXPR_d_1")["Number"] == "A"
    assert capfd.readouterr().err == ""


def test_pysam_reads_the_scores(source: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    scores = annotate(source, tmp_path / "out.vcf.gz")["logFC"]
    with pysam.VariantFile(str(tmp_path / "out.vcf.gz")) as file:
        assert file.header.info["GEXPR_wt"].number == "A" and file.header.info["GEXPR_wt"].type == "Float"
        assert file.header.info["GEXPR_d_1"].description.startswith("Diamide, ")
        records = list(file.fetch("chr1", 15, 25))
        assert [record.pos for record in records] == [20, 20]
        assert records[0].info["GEXPR_wt"] == tuple(map(float, scores[1:4, 0]))
        assert records[0].info["GEXPR_STATUS"] == ("ok", "ok", "ok")
        assert records[1].info["GEXPR_wt"] == (float(scores[4, 0]), None)
        assert [record.id for record in file.fetch("chr1", 60_000, 60_001)] == ["del"]
        assert [record.id for record in file.fetch("chr2")] == ["many"]
    assert capfd.readouterr().err == ""


@pytest.mark.skipif(shutil.which("bcftools") is None, reason="needs bcftools")
def test_bcftools_reads_the_scores(source: Path, tmp_path: Path) -> None:
    annotate(source, tmp_path / "out.vcf.gz")
    command = ["bcftools", "norm", "-m", "-", str(tmp_path / "out.vcf.gz")]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "[W::" not in result.stderr and "Error" not in result.stderr
    query = ["bcftools", "index", "--nrecords", str(tmp_path / "out.vcf.gz")]
    assert subprocess.run(query, capture_output=True, text=True, check=True).stdout.strip() == "6"


def test_unsorted_files_get_no_index(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = RECORDS.splitlines(keepends=True)
    for name, order in (("pos", [1, 0, 2]), ("contig", [0, 5, 1])):
        source = tmp_path / f"{name}.vcf"
        source.write_text(HEADER + "".join(lines[i] for i in order))
        target = tmp_path / f"{name}.out.vcf.gz"
        # The index of the file that is replaced must not stay.
        for path in (target, Path(f"{target}.tbi"), Path(f"{target}.csi")):
            path.write_text("old")
        annotate(source, target, force=True)
        err = capsys.readouterr().err
        assert err.startswith(f"warning: {target} gets no index: its records are not sorted: chr1")
        assert stripped(content(target), source.read_bytes()) == source.read_bytes()
        assert not Path(f"{target}.tbi").exists() and not Path(f"{target}.csi").exists()


def test_an_index_that_exists_is_refused_before_anything_has_its_name(source: Path, tmp_path: Path) -> None:
    for suffix in (".tbi", ".csi"):
        index = tmp_path / f"out.vcf.gz{suffix}"
        index.write_text("theirs")
        with pytest.raises(GexprError, match=rf"out\.vcf\.gz\{suffix} exists; give --force"):
            annotate(source, tmp_path / "out.vcf.gz")
        assert index.read_text() == "theirs"
        index.unlink()
    assert [path.name for path in tmp_path.iterdir()] == ["in.vcf"]


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda v: v[:-1], r"the VCF is not the one that was scored: it has chr2:5 after"),
        (lambda v: v[:5], r"it has chr1:20 after the last allele"),
        (lambda v: [*v, v[-1]], r"chr2:5 G GAA was scored where it has the end of the file"),
        (lambda v: [v[0]._replace(pos=11), *v[1:]], r"chr1:11 A C was scored where it has chr1:10 A C"),
        (lambda v: [v[0]._replace(ref="T"), *v[1:]], r"chr1:10 T C was scored where it has"),
        (lambda v: [v[0], v[2], v[1], *v[3:]], r"chr1:20 A G was scored where it has chr1:20 A C,G,T"),
    ],
    ids=["an allele less", "records less", "a row more", "pos", "ref", "order"],
)
def test_rows_of_another_file_are_refused(
    edit: Callable[[list[Variant]], list[Variant]], message: str, source: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        annotate(source, tmp_path / "out.vcf.gz", edit=edit)
    assert [path.name for path in tmp_path.iterdir()] == ["in.vcf"]


def test_a_bcf_is_refused(source: Path, tmp_path: Path) -> None:
    with pysam.VariantFile(str(source)) as text:
        with pysam.VariantFile(str(tmp_path / "in.bcf"), "wb", header=text.header) as binary:
            for record in text:
                binary.write(record)
    with pytest.raises(InputError, match=r"in\.bcf: a BCF has no lines of text .*`bcftools view"):
        annotate(tmp_path / "in.bcf", tmp_path / "out.vcf")
    with pytest.raises(ConfigError, match="annotates the VCF that was scored"):
        with AtomicOutput(str(tmp_path / "out.vcf")) as output:
            open_writer(output, "vcf", ScoreSchema(TRACKS, ("logFC",), {}))


def test_many_keys_are_written_with_a_warning(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in (MANY_KEYS, MANY_KEYS + 1):
        tracks = [Track(i, f"t{i}", "") for i in range(number)]
        annotate(source, tmp_path / f"{number}.vcf", tracks=tracks)
        assert ("INFO entries a record" in capsys.readouterr().err) == (number > MANY_KEYS)
        assert content(tmp_path / f"{number}.vcf").count(b"GEXPR_t199=") == 5


@pytest.mark.data
def test_conformance_files(reference_data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Whatever the reader accepts comes out with the same bytes around our entries."""
    files = sorted(
        path for path in (reference_data / "corpora").rglob("*.vcf") if path.stat().st_size < 1 << 20
    )
    files = random.Random(3).sample(files, 150)
    seen = records = indexed = 0
    for number, path in enumerate(files):
        target = tmp_path / f"{number}.vcf.gz"
        try:
            annotate(path, target, cuts=[])
        except InputError:
            continue
        seen += 1
        text = path.read_bytes()
        data_out = content(target)
        assert stripped(data_out, text) == text, path
        records += data_out.count(b"GEXPR_STATUS=")
        if Path(f"{target}.tbi").exists():
            indexed += 1
            with pysam.TabixFile(str(target)) as file:
                fetched = [line for contig in file.contigs for line in file.fetch(contig)]
            lines = data_out.decode("utf-8", "surrogateescape").splitlines()
            assert len(fetched) == sum(bool(line) and not line.startswith("#") for line in lines), path
    assert seen > 75 and records > 200 and indexed > 50
