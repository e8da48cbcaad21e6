"""Genotypes: what haplotypes carry, phase sets, what is unknown, and files that cannot be read so."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from toy_models import write_fasta

from gexpr.errors import ConfigError, InputError
from gexpr.genome.contigs import ContigMap
from gexpr.genome.fasta import Fasta
from gexpr.variants.alleles import AlleleReader
from gexpr.variants.genotypes import (
    CARRIED,
    MISSING,
    NOT_CARRIED,
    PHASED_STATUS_MEANINGS,
    UNKNOWN,
    Background,
    Edit,
    Genotypes,
    choose_samples,
    overlap,
    reference_end,
)
from gexpr.variants.vcf import open_vcf

SEQUENCE = "".join(np.random.default_rng(3).choice(list("ACGT"), 400))
HEADER = [
    "##fileformat=VCFv4.2",
    "##contig=<ID=chr1,length=400>",
    '##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">',
    '##FORMAT=<ID=PS,Number=1,Type=Integer,Description="Phase set">',
]


def other(base: str) -> str:
    return "ACGT"[("ACGT".index(base) + 1) % 4]


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> AlleleReader:
    folder = tmp_path_factory.mktemp("genome")
    fasta = Fasta(str(write_fasta(folder / "a.fa", {"chr1": SEQUENCE})), str(folder / "cache"))
    return AlleleReader(fasta, ContigMap(fasta.names))


def snv(start: int, calls: str, format: str = "GT", alts: int = 1) -> str:
    """A line with an SNV at a 0-based start; calls are separated by blanks."""
    letters = [base for base in "ACGT" if base != SEQUENCE[start]][:alts]
    fields = ["chr1", str(start + 1), ".", SEQUENCE[start], ",".join(letters), ".", ".", ".", format]
    return "\t".join([*fields, *calls.split()])


def edit(start: int, allele: int = 1) -> Edit:
    letters = [base for base in "ACGT" if base != SEQUENCE[start]]
    return Edit(start, SEQUENCE[start], letters[allele - 1])


def write(path: Path, lines: list[str], samples: str = "A B", header: list[str] = HEADER) -> Path:
    columns = "#CHROM POS ID REF ALT QUAL FILTER INFO FORMAT".split() + samples.split()
    path.write_text("\n".join([*header, "\t".join(columns), *lines]) + "\n")
    return path


def genotypes(path: Path, reader: AlleleReader, *samples: str) -> Genotypes:
    return Genotypes(open_vcf(path), reader, samples)


def states(found: Genotypes, row: int, sample: int = 0) -> tuple[int, int]:
    return found.state(row, sample, 0), found.state(row, sample, 1)


@pytest.mark.parametrize(
    ("call", "first", "second"),
    [
        ("0|1", (NOT_CARRIED, CARRIED), (NOT_CARRIED, NOT_CARRIED)),
        ("2|1", (NOT_CARRIED, CARRIED), (CARRIED, NOT_CARRIED)),
        ("1/1", (CARRIED, CARRIED), (NOT_CARRIED, NOT_CARRIED)),
        ("0/1", (UNKNOWN, UNKNOWN), (NOT_CARRIED, NOT_CARRIED)),
        ("1/2", (UNKNOWN, UNKNOWN), (UNKNOWN, UNKNOWN)),
        ("./.", (MISSING, MISSING), (MISSING, MISSING)),
        (".", (MISSING, MISSING), (MISSING, MISSING)),
        (".|1", (MISSING, CARRIED), (MISSING, NOT_CARRIED)),
        ("./1", (UNKNOWN, UNKNOWN), (MISSING, MISSING)),
        ("1", (CARRIED, NOT_CARRIED), (NOT_CARRIED, NOT_CARRIED)),
        ("0", (NOT_CARRIED, NOT_CARRIED), (NOT_CARRIED, NOT_CARRIED)),
        ("0|0", (NOT_CARRIED, NOT_CARRIED), (NOT_CARRIED, NOT_CARRIED)),
    ],
)
@pytest.mark.parametrize("beside", ["0|0", "1"])
def test_what_a_call_says_of_both_alleles(
    call: str, first: tuple[int, int], second: tuple[int, int], beside: str, reader, tmp_path: Path
) -> None:
    path = write(tmp_path / "a.vcf", [snv(50, f"{beside} {call}", alts=2)])
    found = genotypes(path, reader, "B")
    assert (states(found, 0), states(found, 1)) == (first, second)


@pytest.mark.parametrize("form", ["text", "gzip", "bgzf", "bcf"])
def test_every_form_of_the_file_says_the_same(form: str, reader, tmp_path: Path) -> None:
    lines = [snv(20, "0|1 1|1"), snv(30, "1|0:7 0|1:9", "GT:PS"), snv(40, "./. 1|1", alts=3)]
    path = write(tmp_path / "a.vcf", lines)
    if form == "gzip":
        path = tmp_path / "b.vcf.gz"
        path.write_bytes(gzip.compress((tmp_path / "a.vcf").read_bytes()))
    elif form != "text":
        import pysam

        path = tmp_path / f"b.{'bcf' if form == 'bcf' else 'vcf.gz'}"
        with pysam.VariantFile(str(tmp_path / "a.vcf")) as source:
            with pysam.VariantFile(str(path), "wb" if form == "bcf" else "wz", header=source.header) as copy:
                for record in source:
                    copy.write(record)
    found = genotypes(path, reader, "B", "A")
    assert [states(found, row, 0) for row in (0, 1, 2)] == [(1, 1), (0, 1), (1, 1)]
    assert [states(found, row, 1) for row in (0, 1, 2, 3, 4)] == [(0, 1), (1, 0), (2, 2), (2, 2), (2, 2)]
    around = found.background("chr1", edit(20), 0, 0, 1, 0, 100)
    assert around == Background("ok", (edit(30), edit(40)))
    # The call without a phase set is not phased with the one in set 7.
    assert found.background("chr1", edit(20), 0, 1, 1, 0, 100).status == "unphased_neighbor"


def test_records_without_genotypes_are_missing(reader, tmp_path: Path) -> None:
    header = [*HEADER, '##FORMAT=<ID=DP,Number=1,Type=Integer,Description="Depth">']
    path = write(tmp_path / "a.vcf", [snv(20, "3 4", "DP"), snv(30, "0|1 0|1")], header=header)
    found = genotypes(path, reader, "A")
    assert states(found, 0) == (MISSING, MISSING) and states(found, 1) == (NOT_CARRIED, CARRIED)


def test_a_header_without_contigs_is_read_without_a_word(reader, tmp_path: Path, capfd) -> None:
    header = [line for line in HEADER if "contig" not in line]
    found = genotypes(write(tmp_path / "a.vcf", [snv(20, "0|1 0|0")], header=header), reader, "A")
    assert states(found, 0) == (NOT_CARRIED, CARRIED)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("calls", "status"),
    [
        (["0|1", "1|0"], "ok"),
        (["0|1", "0/1"], "unphased_neighbor"),
        (["1/1", "0/1"], "unphased_neighbor"),
        (["0|1", "1/1"], "ok"),
        (["0|1", "./."], "ok"),
        (["0/1", "0|1"], "unphased"),
        (["0|0", "0/1"], "not_carried"),
        ([".|.", "0/1"], "missing_genotype"),
        (["0|1:5", "0|1:5"], "ok"),
        (["0|1:5", "1|0:6"], "unphased_neighbor"),
        (["0|1:5", "0|1:."], "unphased_neighbor"),
        (["0|1:.", "0|1"], "ok"),
        (["1|1:5", "0|1:6"], "ok"),
        (["1|1:5", "0|1:6", "0|1:6"], "ok"),
        (["1|1:5", "0|1:6", "1|0:7"], "unphased_neighbor"),
        (["0|1:5", "1|1:6", "0/0"], "ok"),
    ],
)
def test_phase(calls: list[str], status: str, reader, tmp_path: Path) -> None:
    lines = [snv(100 + 10 * i, call, "GT:PS" if ":" in call else "GT") for i, call in enumerate(calls)]
    found = genotypes(write(tmp_path / "a.vcf", lines, "A"), reader, "A")
    assert found.background("chr1", edit(100), 0, 0, 1, 60, 80).status == status


def test_phase_sets_may_have_names(reader, tmp_path: Path) -> None:
    header = [line.replace("ID=PS,Number=1,Type=Integer", "ID=PS,Number=1,Type=String") for line in HEADER]
    calls = ["0|1:one", "0|1:one", "0|1:two", "0|1:."]
    lines = [snv(100 + 30 * i, call, "GT:PS") for i, call in enumerate(calls)]
    found = genotypes(write(tmp_path / "a.vcf", lines, "A", header), reader, "A")
    assert found.background("chr1", edit(100), 0, 0, 1, 80, 60) == Background("ok", (edit(130),))
    assert found.background("chr1", edit(130), 1, 0, 1, 120, 60).status == "unphased_neighbor"
    assert found.background("chr1", edit(160), 2, 0, 1, 150, 60).status == "unphased_neighbor"


def test_the_window_decides_who_is_a_neighbor(reader, tmp_path: Path) -> None:
    lines = [snv(59, "0/1"), snv(60, "0|1"), snv(100, "0|1"), snv(139, "0|1"), snv(140, "0/1")]
    found = genotypes(write(tmp_path / "a.vcf", lines, "A"), reader, "A")
    around = found.background("chr1", edit(100), 2, 0, 1, 60, 80)
    assert around == Background("ok", (edit(60), edit(139)))
    assert found.background("chr1", edit(100), 2, 0, 1, 59, 80).status == "unphased_neighbor"


def test_a_deletion_draws_neighbors_into_the_window(reader, tmp_path: Path) -> None:
    deletion = "\t".join(["chr1", "111", ".", SEQUENCE[110:115], SEQUENCE[110], ".", ".", ".", "GT", "0|1"])
    path = write(tmp_path / "a.vcf", [snv(100, "0|1"), deletion, snv(143, "0|1"), snv(150, "0/1")], "A")
    found = genotypes(path, reader, "A")
    around = found.background("chr1", edit(100), 0, 0, 1, 60, 80)
    assert around.status == "ok" and [len(each.ref) for each in around.others] == [4, 1]
    assert around.others[1] == edit(143)


def record(start: int, end: int, alt: str, call: str = "0|1") -> str:
    return "\t".join(["chr1", str(start + 1), ".", SEQUENCE[start:end], alt, ".", ".", ".", "GT", call])


def test_overlapping_alleles_conflict(reader, tmp_path: Path) -> None:
    lines = [snv(100, "0|1"), record(110, 118, SEQUENCE[110]), snv(114, "0|1"), snv(116, "1|0")]
    found = genotypes(write(tmp_path / "a.vcf", lines, "A"), reader, "A")
    assert found.background("chr1", edit(100), 0, 0, 1, 60, 80).status == "haplotype_conflict"
    assert found.background("chr1", edit(116), 3, 0, 0, 60, 80) == Background("ok")
    # The deletion reaches over the start of this window.
    assert found.background("chr1", edit(114), 2, 0, 1, 114, 80).status == "haplotype_conflict"


def test_the_same_allele_twice_is_one(reader, tmp_path: Path) -> None:
    lines = [snv(100, "0|1"), snv(110, "0|1"), record(109, 111, SEQUENCE[109] + edit(110).alt)]
    found = genotypes(write(tmp_path / "a.vcf", lines, "A"), reader, "A")
    assert found.background("chr1", edit(100), 0, 0, 1, 60, 80) == Background("ok", (edit(110),))
    assert found.background("chr1", edit(110), 1, 0, 1, 60, 80) == Background("ok", (edit(100),))


def test_a_substitution_over_the_start_is_cut(reader, tmp_path: Path) -> None:
    swapped = "".join(other(base) for base in SEQUENCE[58:63])
    found = genotypes(write(tmp_path / "a.vcf", [record(58, 63, swapped), snv(100, "0|1")], "A"), reader, "A")
    around = found.background("chr1", edit(100), 1, 0, 1, 60, 80)
    assert around == Background("ok", (Edit(60, SEQUENCE[60:63], swapped[2:]),))


def test_what_no_sequence_can_show_is_counted(reader, tmp_path: Path) -> None:
    symbolic = "\t".join(["chr1", "90", ".", SEQUENCE[89], "<DEL>", ".", ".", "END=95", "GT", "0|1"])
    star = "\t".join(["chr1", "92", ".", SEQUENCE[91], "*", ".", ".", ".", "GT", "0|1"])
    lines = [symbolic, star, snv(100, "0|1")]
    found = genotypes(write(tmp_path / "a.vcf", lines, "A"), reader, "A")
    assert found.left_out == {"symbolic_alt": 1}
    assert found.background("chr1", edit(100), 2, 0, 1, 60, 80) == Background("ok")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("0/1/1", r"sample A has 3 alleles at chr1:101"),
        ("0|2", r"names allele 2 at chr1:101, which has 1"),
        ("x|1", r"a\.vcf, line 6: its genotypes cannot be read"),
    ],
)
def test_genotypes_that_cannot_be_read(call: str, message: str, reader, tmp_path: Path) -> None:
    found = genotypes(write(tmp_path / "a.vcf", [snv(100, call)], "A"), reader, "A")
    with pytest.raises(InputError, match=message):
        found.state(0, 0, 0)


def test_choice_of_samples(tmp_path: Path) -> None:
    many = open_vcf(write(tmp_path / "a.vcf", [snv(5, "0|1 0|1 0|1")], "NA12878 NA12877 HG002"))
    assert choose_samples(many, ("HG002", "NA12878")) == ("HG002", "NA12878")
    with pytest.raises(ConfigError, match="no sample NA12879; did you mean NA128"):
        choose_samples(many, ("NA12879",))
    with pytest.raises(ConfigError, match=r"no sample hg002; did you mean HG002\?"):
        choose_samples(many, ("hg002",))
    with pytest.raises(ConfigError, match="it has NA12878, NA12877, HG002"):
        choose_samples(many, ("other",))
    with pytest.raises(ConfigError, match="HG002 is given twice"):
        choose_samples(many, ("HG002", "HG002"))
    with pytest.raises(ConfigError, match=r"3 samples .* choose with --samples"):
        choose_samples(many, ())
    assert choose_samples(open_vcf(write(tmp_path / "b.vcf", [snv(5, "0|1")], "A")), ()) == ("A",)
    plain = tmp_path / "c.vcf"
    plain.write_text("##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n")
    with pytest.raises(InputError, match="no samples"):
        choose_samples(open_vcf(plain), ())


def test_overlap() -> None:
    assert not overlap([Edit(5, "", "A"), Edit(5, "C", "G"), Edit(6, "", "T")])
    assert overlap([Edit(5, "", "A"), Edit(5, "", "C")])
    assert overlap([Edit(5, "AC", ""), Edit(6, "", "T")])
    assert overlap([Edit(5, "A", "C"), Edit(5, "A", "G")])
    assert not overlap([Edit(5, "AC", ""), Edit(7, "", "T")])


def test_reference_end() -> None:
    assert reference_end([], 10, 20) == 30
    assert reference_end([Edit(15, "ACGT", "")], 10, 20) == 34
    assert reference_end([Edit(15, "", "ACGT")], 10, 20) == 26
    assert reference_end([Edit(28, "", "ACGT"), Edit(29, "A", "")], 10, 20) == 28
    assert reference_end([Edit(30, "A", "")], 10, 20) == 30


def test_the_documentation_lists_every_status_with_its_meaning() -> None:
    page = (Path(__file__).parents[2] / "docs" / "score-variants.md").read_text(encoding="utf-8")
    section = page.partition("## Haplotypes")[2].partition("\n## ")[0]
    rows = [line for line in section.partition("| status |")[2].splitlines() if line.startswith("| `")]
    assert rows == [f"| `{status}` | {meaning} |" for status, meaning in PHASED_STATUS_MEANINGS.items()]
