"""Genes of GTF, GFF3, BED and tables: every format gives the same records, every fault its line."""

from __future__ import annotations

import gzip
import pickle
import random
import re
from itertools import pairwise
from pathlib import Path

import pysam
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gexpr.errors import InputError
from gexpr.genome.contigs import ContigMap
from gexpr.genome.genes import Gene, digest, merge, place_genes, read_genes

GTF = """\
#!genome-build toy
chr1\ts\tgene\t101\t400\t.\t+\t.\tgene_id "G1.7"; gene_type "protein_coding"; gene_name "one";
chr1\ts\ttranscript\t101\t400\t.\t+\t.\tgene_id "G1.7"; transcript_id "T1"; gene_name "one";
chr1\ts\texon\t101\t150\t.\t+\t.\tgene_id "G1.7"; transcript_id "T1";
chr1\ts\texon\t301\t400\t.\t+\t.\tgene_id "G1.7"; transcript_id "T1";
chr1\ts\tCDS\t121\t150\t.\t+\t0\tgene_id "G1.7"; transcript_id "T1";
chr1\ts\ttranscript\t141\t380\t.\t+\t.\tgene_id "G1.7"; transcript_id "T2";
chr1\ts\texon\t141\t170\t.\t+\t.\tgene_id "G1.7"; transcript_id "T2";
chr1\ts\texon\t171\t180\t.\t+\t.\tgene_id "G1.7"; transcript_id "T2";
chr1\ts\tmade_up\tx\ty\t.\t!\t.\twhatever
chr2\ts\texon\t11\t20\t.\t-\t.\tgene_id "G2"; transcript_id "T3"; gene_biotype "lncRNA";
chr2\ts\texon\t31\t40\t.\t-\t.\tgene_id "G2"; transcript_id "T3";
"""
ONE = Gene("G1.7", "one", "chr1", "+", 100, 400, ((100, 180), (300, 400)), (100, 140), "protein_coding", 2)
TWO = Gene("G2", "G2", "chr2", "-", 10, 40, ((10, 20), (30, 40)), (39,), "lncRNA", 11)

GFF3 = """\
##gff-version 3
chr1\ts\texon\t101\t150\t.\t+\t.\tParent=t1
chr1\ts\tgene\t101\t400\t.\t+\t.\tID=G1.7;Name=one;biotype=protein_coding
chr1\ts\tmRNA\t101\t400\t.\t+\t.\tID=t1;Parent=G1.7
chr1\ts\tlnc_RNA\t141\t380\t.\t+\t.\tID=t2;Parent=G1.7
chr1\ts\texon\t141\t180\t.\t+\t.\tParent=t1,t2
chr1\ts\texon\t301\t400\t.\t+\t.\tID=e;Parent=t1
chr1\ts\tCDS\t121\t150\t.\t+\t0\tID=c;Parent=t1
###
chr2\ts\tncRNA_gene\t11\t40\t.\t-\t.\tID=gene:G2;gene_id=G2;Name=two%2C%20too;biotype=lncRNA
chr2\ts\tprimary_transcript\t11\t40\t.\t-\t.\tID=p;Parent=gene:G2
chr2\ts\tmiRNA\t11\t20\t.\t-\t.\tID=m;Parent=p
chr2\ts\texon\t11\t20\t.\t-\t.\tParent=m
chr2\ts\texon\t31\t40\t.\t-\t.\tParent=p
chr2\ts\tregion\t1\t1000\t.\t.\t.\tID=all
chr2\ts\texon\t500\t600\t.\t.\t.\tParent=all
##FASTA
>chr1
ACGT
"""


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


def test_gtf(tmp_path: Path) -> None:
    assert read_genes(write(tmp_path, "a.gtf", GTF)) == [ONE, TWO]


@pytest.mark.parametrize("name", ["a.gtf.gz", "a.txt", "a.gff"])
def test_content_tells_gtf(name: str, tmp_path: Path) -> None:
    assert read_genes(write(tmp_path, name, GTF)) == [ONE, TWO]


def test_bgzip_and_a_missing_end(tmp_path: Path) -> None:
    path = tmp_path / "a.gtf.gz"
    pysam.tabix_compress(str(write(tmp_path, "a.gtf", GTF)), str(path), force=True)
    assert read_genes(path) == [ONE, TWO]
    path.write_bytes(path.read_bytes()[:-28])
    with pytest.raises(InputError, match="end-of-file marker is missing"):
        read_genes(path)


@pytest.mark.parametrize("name", ["a.gff3", "a.gff", "a.txt"])
def test_gff3_in_any_order_of_lines(name: str, tmp_path: Path) -> None:
    one, two = read_genes(write(tmp_path, name, GFF3))
    assert one == ONE._replace(line=3)
    assert two == TWO._replace(name="two, too", line=10)


def test_gff3_of_yeast_has_coding_sequences_alone(tmp_path: Path) -> None:
    text = (
        "##gff-version 3\n"
        "chrI\tSGD\tgene\t1001\t2000\t.\t-\t.\tID=YAL001C;Name=YAL001C;gene=TFC3;Note=a%3Bb\n"
        "chrI\tSGD\tCDS\t1001\t1500\t.\t-\t0\tParent=YAL001C_mRNA;Name=YAL001C_CDS\n"
        "chrI\tSGD\tCDS\t1591\t2000\t.\t-\t0\tParent=YAL001C_mRNA;Name=YAL001C_CDS\n"
        "chrI\tSGD\tintron\t1501\t1590\t.\t-\t.\tParent=YAL001C_mRNA\n"
        "chrI\tSGD\tfive_prime_UTR_intron\t1501\t1590\t.\t-\t.\tParent=YAL001C_mRNA\n"
        "chrI\tSGD\tmRNA\t1001\t2000\t.\t-\t.\tID=YAL001C_mRNA;Parent=YAL001C\n"
        "chrI\tSGD\tgene\t3001\t3100\t.\t+\t.\tID=YAL002W\n"
        "chrI\tSGD\tCDS\t3001\t3100\t.\t+\t0\tParent=YAL002W\n"
        "chrI\tSGD\ttRNA_gene\t4001\t4050\t.\t+\t.\tID=tR\n"
        "chrI\tSGD\tnoncoding_exon\t4001\t4020\t.\t+\t.\tParent=tR\n"
        "chrI\tSGD\tpseudogene\t5001\t5050\t.\t.\t.\tID=P\n"
    )
    genes = read_genes(write(tmp_path, "sgd.gff", text))
    assert genes == [
        Gene("YAL001C", "TFC3", "chrI", "-", 1000, 2000, ((1000, 1500), (1590, 2000)), (1999,), "", 2),
        Gene("YAL002W", "YAL002W", "chrI", "+", 3000, 3100, ((3000, 3100),), (3000,), "", 8),
        Gene("tR", "tR", "chrI", "+", 4000, 4050, ((4000, 4020),), (4000,), "", 10),
        Gene("P", "P", "chrI", ".", 5000, 5050, ((5000, 5050),), (), "", 12),
    ]


def test_gtf_of_other_programs(tmp_path: Path) -> None:
    text = (
        'chr1\tStringTie\ttranscript\t11\t90\t.\t+\t.\tgene_id "M.1"; transcript_id "M.1.1"; cov "9";\n'
        'chr1\tStringTie\texon\t11\t90\t.\t+\t.\tref_gene_id "X"; gene_id "M.1"; transcript_id "M.1.1";\n'
        "chr1\told\tCDS\t201\t260\t.\t-\t.\tgene_id plain; transcript_id other\n"
        'chrX\tucsc\texon\t1\t9\t.\t?\t.\tgene_id "PAR"; transcript_id "P";\n'
        'chrY\tucsc\texon\t1\t9\t.\t?\t.\tgene_id "PAR"; transcript_id "P";\n'
        'chr1\tncbi\tgene\t301\t400\t.\t+\t.\tgene_id "N"; transcript_id ""; gene "NNN"; \n\n'
    )
    assert read_genes(write(tmp_path, "a.gtf", text)) == [
        Gene("M.1", "M.1", "chr1", "+", 10, 90, ((10, 90),), (10,), "", 1),
        Gene("plain", "plain", "chr1", "-", 200, 260, ((200, 260),), (259,), "", 3),
        Gene("PAR", "PAR", "chrX", ".", 0, 9, ((0, 9),), (), "", 4),
        Gene("PAR", "PAR", "chrY", ".", 0, 9, ((0, 9),), (), "", 5),
        Gene("N", "NNN", "chr1", "+", 300, 400, ((300, 400),), (300,), "", 6),
    ]


def test_bed(tmp_path: Path) -> None:
    text = (
        "track name=genes\n"
        "chr1\t10\t60\tA\t0\t-\n"
        "chr1\t10\t60\t.\t0\t+\n"
        "chr1\t100\t200\tB\t0\t+\t110\t150\t0\t2\t20,30,\t0,70,\n"
        "chr1\t5\t9\n"
    )
    assert read_genes(write(tmp_path, "a.bed", text)) == [
        Gene("A", "A", "chr1", "-", 10, 60, ((10, 60),), (59,), "", 2),
        Gene("chr1:10-60", "chr1:10-60", "chr1", "+", 10, 60, ((10, 60),), (10,), "", 3),
        Gene("B", "B", "chr1", "+", 100, 200, ((100, 120), (170, 200)), (100,), "", 4),
        Gene("chr1:5-9", "chr1:5-9", "chr1", ".", 5, 9, ((5, 9),), (), "", 5),
    ]


def test_table(tmp_path: Path) -> None:
    text = (
        "## promoters and coding sequences\n"
        "#gene_id\tchrom\tstart\tend\tstrand\tname\ttss\texons\tbiotype\n"
        "A\tchrI\t100\t400\t+\tcdc\t90,70,90\t300-400,100-150,140-200\tcoding\n"
        "B\tchrI\t0\t10\t-\t.\t.\t\t.\n"
    )
    assert read_genes(write(tmp_path, "a.tsv", text)) == [
        Gene("A", "cdc", "chrI", "+", 100, 400, ((100, 200), (300, 400)), (70, 90), "coding", 3),
        Gene("B", "B", "chrI", "-", 0, 10, ((0, 10),), (9,), "", 4),
    ]


EXON = "chr1\ts\texon\t{}\t{}\t.\t{}\t.\t{}\n"
GENE3 = "##gff-version 3\nchr1\ts\tgene\t1\t9\t.\t+\t.\tID=g\n"


@pytest.mark.parametrize(
    ("name", "text", "line", "message"),
    [
        ("a.gtf", GTF + "chr1\ts\texon\t1\t2\n", 13, "5 column.* nine"),
        ("a.gtf", "chr1 s exon 1 2 . + . x\n", 1, "separated by tabs"),
        ("a.gtf", GTF + EXON.format("1e3", 20, "+", 'gene_id "x";'), 13, "start '1e3' is not a whole number"),
        ("a.gtf", GTF + EXON.format(1, "", "+", 'gene_id "x";'), 13, "end '' is not a whole number"),
        (
            "a.gtf",
            GTF + EXON.format(1, "9" * 30, "+", 'gene_id "x";'),
            13,
            "end 9+ is no position in a genome",
        ),
        ("a.gtf", GTF + EXON.format(0, 20, "+", 'gene_id "x";'), 13, "interval 0-20; .* 1-based"),
        ("a.gtf", GTF + EXON.format(21, 20, "+", 'gene_id "x";'), 13, "interval 21-20"),
        ("a.gtf", GTF + EXON.format(1, 20, "plus", 'gene_id "x";'), 13, "strand 'plus'"),
        ("a.gtf", GTF + EXON.format(1, 20, "+", 'transcript_id "x";'), 13, "exon has no gene_id"),
        ("a.gtf", GTF + EXON.format(1, 20, "+", 'gene_id ""; '), 13, "empty gene_id"),
        ("a.gtf", GTF + "\ts\texon\t1\t2\t.\t+\t.\tgene_id x\n", 13, "contig's name is empty"),
        ("a.gff3", GENE3 + "chr1\ts\texon\t1\t2\t.\t+\t.\tParent=h\n", 3, "Parent h .* is not in the file"),
        ("a.gff3", GENE3 + "chr1\ts\tmRNA\t1\t2\t.\t+\t.\tID=a;Parent=a\n", 3, "a is its own ancestor"),
        ("a.gff3", GENE3 + "chr2\ts\tgene\t1\t2\t.\t+\t.\tID=g\n", 3, "ID g was used .* chr1 in line 2"),
        ("a.gff3", GENE3 + "chr1\ts\tgene\t1\t2\t.\t+\t.\tNote=x\n", 3, "neither ID nor gene_id"),
        ("a.gff3", GENE3 + 'chr1\ts\tgene\t1\t2\t.\t+\t.\tgene_id "x"\n', 3, "without '='"),
        ("a.bed", "chr1\t1\t9\ta\t0\t+\nchr1\t9\t1\n", 2, "reversed"),
        ("a.bed", "chr1\t0\t9\ta\t0\t+\t0\t9\t0\t2\t3\t0\n", 1, "number of blocks"),
        ("a.bed", "chr1\t0\t9\ta\t0\t+\t0\t9\t0\t1\t10\t0\n", 1, "past the end 9"),
        ("a.tsv", "gene_id\tchrom\tstart\tend\n", 1, "the column 'strand' is missing"),
        ("a.tsv", "gene_id\tchrom\tstart\tend\tstrand\ttsss\n", 1, "unknown column 'tsss'"),
        ("a.tsv", "gene_id\tchrom\tstart\tend\tstrand\tend\n", 1, "named twice"),
        ("a.tsv", "gene_id\tchrom\tstart\tend\tstrand\na\tc\t1\t2\n", 2, "4 columns where the header has 5"),
        ("a.tsv", "gene_id\tchrom\tstart\tend\tstrand\n\tc\t1\t2\t+\n", 2, "column gene_id is empty"),
        ("a.tsv", "gene_id\tchrom\tstart\tend\tstrand\na\tc\t-1\t2\t+\n", 2, "start '-1'"),
        ("a.tsv", "gene_id\tchrom\tstart\tend\tstrand\na\tc\t2\t2\t+\n", 2, "interval 2-2"),
        ("a.tsv", "gene_id\tchrom\tstart\tend\tstrand\na\tc\t1\t2\t?\n", 2, "strand '\\?'"),
        ("a.tsv", "gene_id\tchrom\tstart\tend\tstrand\texons\na\tc\t1\t9\t+\t5-10\n", 2, "exon '5-10'"),
        ("a.tsv", "gene_id\tchrom\tstart\tend\tstrand\ttss\na\tc\t1\t9\t+\tx\n", 2, "tss 'x'"),
        ("a.gtf", "#only comments\n", None, "no gene in this file"),
        ("a.gtf", "", None, "0 bytes"),
        ("a.gtf", "<!DOCTYPE html>", None, "web page"),
    ],
)
def test_faults_are_told_with_their_line(
    name: str, text: str, line: int | None, message: str, tmp_path: Path
) -> None:
    path = write(tmp_path, name, text)
    with pytest.raises(InputError, match=message) as caught:
        read_genes(path)
    assert caught.value.path == str(path) and caught.value.line == line


def test_a_gene_in_pieces(tmp_path: Path) -> None:
    text = GENE3 + "chr1\ts\tgene\t21\t29\t.\t+\t.\tID=g\nchr1\ts\tgene\t41\t49\t.\t-\t.\tID=g\n"
    (gene,) = read_genes(write(tmp_path, "a.gff3", text))
    assert (gene.start, gene.end, gene.strand, gene.tss, gene.line) == (0, 49, ".", (), 2)


def test_names_stay_on_one_line(tmp_path: Path) -> None:
    text = GENE3.replace("ID=g", "ID=a%09b;gene=c%0A%0Dd%C3%BC")
    (gene,) = read_genes(write(tmp_path, "a.gff3", text))
    assert (gene.gene_id, gene.name) == ("a b", "c dü")


EXAMPLES = {
    "a.gtf": GTF,
    "a.gff3": GFF3,
    "a.bed": "chr1\t100\t200\tB\t0\t+\t110\t150\t0\t2\t20,30,\t0,70,\nchr1\t5\t9\n",
    "a.tsv": "gene_id\tchrom\tstart\tend\tstrand\ttss\texons\n"
    "A\tc\t1\t40\t+\t2\t1-5,7-9\nB\tc\t1\t9\t-\t\t\n",
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_damaged_files_end_in_input_errors_only(name: str, tmp_path: Path) -> None:
    draw = random.Random(11)
    path = tmp_path / name
    outcomes = set()
    for _ in range(400):
        data = bytearray(EXAMPLES[name].encode())
        for _ in range(draw.randint(1, 3)):
            at = draw.randrange(len(data))
            piece = draw.choice(
                [b"", b"\t", b"\n", b"-", b"9" * 30, b",", b";", b"=", b'"', b"%", b"\xff", b"\xb2"]
            )
            data[at : at + draw.randint(0, 4)] = piece
        path.write_bytes(data)
        try:
            genes = read_genes(path)
        except InputError:
            outcomes.add("refused")
            continue
        outcomes.add("read")
        for gene in genes:
            assert gene.start < gene.end and gene.exons and gene.gene_id and gene.contig
            assert all(low < high for low, high in gene.exons)
            assert gene.start <= gene.exons[0][0] and gene.exons[-1][1] <= gene.end
    assert outcomes == {"read", "refused"}


def test_placing_genes_on_a_genome(tmp_path: Path) -> None:
    genes = [ONE, TWO, TWO._replace(contig="scaffold_1"), TWO._replace(contig="M", start=0)]
    placed = place_genes(genes, ContigMap(["1", "2", "chrM"]), {"1": 399, "2": 40, "chrM": 90})
    assert [gene.contig for gene in placed.genes] == ["1", "2", "chrM"]
    assert placed.genes[0] == ONE._replace(contig="1")
    assert placed.unknown == {"scaffold_1": 1} and placed.past_end == 1
    lacking, past = placed.warnings
    assert lacking == "1 of 4 genes are on contigs that the FASTA lacks: scaffold_1"
    assert past.startswith("1 genes end past their contig's end, the first is G1.7")
    assert place_genes([ONE], ContigMap(["chr1"])).warnings == ()
    with pytest.raises(InputError, match=r"genes.gtf: no gene lies .* chr1, chr2; name them"):
        place_genes([ONE, TWO], ContigMap(["other"]), path="genes.gtf")


def test_digest_is_of_the_genes_and_not_of_the_file(tmp_path: Path) -> None:
    genes = read_genes(write(tmp_path, "a.gtf", GTF))
    assert digest(genes) == digest(read_genes(write(tmp_path, "a.gtf.gz", "#!x\n" + GTF)))
    assert digest(genes) != digest(genes[::-1])
    for change in ({"gene_id": "x"}, {"name": "x"}, {"strand": "-"}, {"exons": ((0, 1),)}, {"tss": ()}):
        assert digest([ONE]) != digest([ONE._replace(**change)])  # type: ignore[arg-type]
    assert pickle.loads(pickle.dumps(genes)) == genes


pairs = st.lists(st.tuples(st.integers(0, 60), st.integers(1, 9)), min_size=1, max_size=12)


@given(st.lists(pairs, min_size=1, max_size=4))
def test_exons_are_the_union_of_bases(per_gene: list[list[tuple[int, int]]]) -> None:
    expected = []
    for intervals in per_gene:
        bases = {base for start, length in intervals for base in range(start, start + length)}
        merged = merge([(start, start + length) for start, length in intervals])
        assert {base for low, high in merged for base in range(low, high)} == bases
        assert all(one[1] < two[0] for one, two in pairwise(merged))
        expected.append(merged)
    from gexpr.genome.genes import _Intervals, _merged

    flat = _Intervals()
    # Interleaved, as the lines of a file may be.
    for place in range(12):
        for number, intervals in enumerate(per_gene):
            if place < len(intervals):
                start, length = intervals[place]
                flat.add(number, start, start + length)
    assert _merged(*flat.arrays(), len(per_gene)) == expected


def test_the_examples_of_the_documentation_are_one_gene(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs" / "genes.md").read_text()
    found = []
    for name in ("gtf", "gff3", "tsv"):
        (example,) = re.findall(rf"```{name}\n(.*?)```", text, re.DOTALL)
        found += read_genes(write(tmp_path, f"example.{name}", example))
    assert len(found) == 3 and found[0].exons == ((100, 220), (300, 400)) and found[0].tss == (100, 150)
    assert len({gene._replace(line=0) for gene in found}) == 1


@pytest.mark.data
def test_yeast(reference_data: Path) -> None:
    genes = read_genes(reference_data / "data" / "yeast" / "genes.bed.gz")
    assert len(genes) == 5983
    assert sum(gene.strand == "+" for gene in genes) == 3012
    assert genes[0] == Gene("YAL068C", "YAL068C", "chrI", "-", 1806, 2169, ((1806, 2169),), (2168,), "", 1)
    assert len({gene.gene_id for gene in genes}) == 5983
