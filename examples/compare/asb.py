#!/usr/bin/env python3
"""Check variant scores against allele-specific chromatin accessibility.

    python asb.py vcf DATA -o asb.vcf
    gexpr score-variants asb.vcf -f DATA/human/windows.fa.gz -c CHECKPOINT -t assay:CAGE,assay:DNASE \\
        --mask center:500 -o scores.h5
    python asb.py judge scores.h5... DATA

``vcf`` writes the SNPs of DATA/asb/*.tsv.gz that lie in the windows of DATA/human/windows.fa.gz. A record
of that FASTA is a window, so CHROM is the name of the window and POS counts from its start. Where a window
carries the alternative allele, REF and ALT change places; a SNP in several windows is taken in the one
whose middle is nearest. gexpr score-variants centers its windows on the SNP; bases beyond the record are
unknown to it.

``judge`` asks whether the allele with the larger prediction (the sign of logFC) is the one that is more
accessible (pref_allele). Predictions are the mean logFC over the DNASE tracks of the measured cell type,
where there are any, over all DNASE tracks and, for comparison, over all CAGE tracks.

The measurements are one file a cell type and assay, in which a SNP occurs once. In rows "all" of the column
"measured" every SNP counts once, with its line of the smallest fdr_comb_pval (then comb_pval, then cell
type and assay), and the matched tracks are those of that line's cell type; ``--by-file`` adds rows for each
file. SNPs are taken all, and those below a p value (comb_pval) or false discovery rate (fdr_comb_pval).
Scores of exactly 0 take no side and are left out.

Intervals are Wilson's for 95 %, p is that of an exact two-sided binomial test against one half. "chance" is
the share that would agree if predicted and measured preference for the alternative allele were independent,
with the frequencies they have: one half only where one of them has no preference.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from compare_tools import Table, add_format, label_of

from gexpr.genome.fasta import Fasta

THRESHOLDS = {
    "all": ("comb_pval", None),
    "p < 0.05": ("comb_pval", 0.05),
    "FDR < 0.1": ("fdr_comb_pval", 0.1),
    "FDR < 0.05": ("fdr_comb_pval", 0.05),
}


class Window(NamedTuple):
    """A record of the FASTA: ``start`` to ``end`` (0-based, half-open) of ``chrom``."""

    record: str
    chrom: str
    start: int
    end: int


def measurements(folder: Path) -> pd.DataFrame:
    """The lines of all files of a folder, with columns ``cell_type`` and ``measured`` (the assay)."""
    tables = []
    for path in sorted(folder.glob("*.tsv.gz")):
        table = pd.read_csv(path, sep="\t").rename(columns={"#chr": "chrom"})
        cell_type, assay = path.name.split(".")[:2]
        tables.append(table.assign(cell_type=cell_type, measured={"atac": "ATAC", "dnase": "DNase"}[assay]))
    if not tables:
        raise SystemExit(f"{folder} holds no *.tsv.gz")
    return pd.concat(tables, ignore_index=True)


def read_windows(path: Path) -> list[Window]:
    """The windows of windows.tsv."""
    table = pd.read_csv(path, sep="\t")
    return [Window(*row) for row in table[["record", "chrom", "start", "end"]].itertuples(index=False)]


def window_of(windows: list[Window], chrom: str, position: int) -> Window | None:
    """The window that holds a 0-based position, the one with the nearest middle if there are several."""
    holding = [each for each in windows if each.chrom == chrom and each.start <= position < each.end]
    return min(holding, key=lambda each: abs(each.start + each.end - 2 * position), default=None)


def records(data: Path) -> Iterator[tuple[str, int, str, str, str]]:
    """CHROM, POS, ID, REF and ALT of every SNP inside a window, in the order of the windows."""
    fasta = Fasta(str(data / "human" / "windows.fa.gz"))
    windows = read_windows(data / "human" / "windows.tsv")
    snps = measurements(data / "asb").drop_duplicates(["chrom", "start", "ref", "alt"])
    found = []
    for snp in snps.itertuples():
        window = window_of(windows, snp.chrom, snp.start)
        if window is None:
            continue
        offset = snp.start - window.start
        base = fasta.fetch(window.record, offset, offset + 1)
        if base not in (snp.ref, snp.alt):
            raise SystemExit(f"{snp.id}: {window.record} has {base} there, neither {snp.ref} nor {snp.alt}")
        other = snp.alt if base == snp.ref else snp.ref
        found.append((windows.index(window), offset + 1, snp.id, base, other))
    for index, position, name, ref, alt in sorted(found):
        yield windows[index].record, position, name, ref, alt


def write_vcf(data: Path, output: Path) -> None:
    """The VCF of :func:`records`."""
    fasta = Fasta(str(data / "human" / "windows.fa.gz"))
    lines = list(records(data))
    with open(output, "w") as handle:
        handle.write("##fileformat=VCFv4.3\n")
        for name in dict.fromkeys(line[0] for line in lines):
            handle.write(f"##contig=<ID={name},length={fasta.lengths[name]}>\n")
        handle.write("#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n")
        for chrom, position, name, ref, alt in lines:
            handle.write(f"{chrom}\t{position}\t{name}\t{ref}\t{alt}\t.\t.\t.\n")
    print(f"{len(lines)} SNPs written to {output}")


class Scores(NamedTuple):
    """logFC of a file of ``gexpr score-variants``: (variants, tracks), the tracks, and (ref, alt) by ID."""

    values: np.ndarray
    assays: list[str]
    cell_types: list[str]
    rows: dict[str, tuple[int, str, str]]


def read_scores(path: Path) -> Scores:
    """Read an HDF5 file of scores; rows that were not scored are left out."""
    import h5py

    with h5py.File(path) as file:
        if "logFC" not in file:
            raise SystemExit(f"{path} holds no logFC")
        labels = [str(label) for label in file["target_labels"].asstr()[:]]
        assays = [label.split(":")[0] for label in labels]
        cells = [label.partition(":")[2] for label in labels]
        columns = (file[key].asstr()[:] for key in ("snp", "ref_allele", "alt_allele", "status"))
        rows = {
            name: (row, ref, alt)
            for row, (name, ref, alt, status) in enumerate(zip(*columns, strict=True))
            if status == "ok"
        }
        return Scores(np.asarray(file["logFC"][:], dtype=np.float64), assays, cells, rows)


def alternate_effects(scores: Scores, snps: pd.DataFrame, assay: str, matched: bool) -> np.ndarray:
    """Mean logFC of the SNP's alt over its ref allele, (snps,); NaN without score or track.

    Args:
        scores: of the VCF of ``vcf``.
        snps: lines of :func:`measurements`.
        assay: of the tracks to average.
        matched: only tracks of the cell type that was measured.
    """
    means = np.full(len(snps), np.nan)
    for place, snp in enumerate(snps.itertuples()):
        row, ref, alt = scores.rows.get(snp.id, (None, "", ""))
        chosen = [
            index
            for index, (own, cell) in enumerate(zip(scores.assays, scores.cell_types, strict=True))
            if own == assay and (not matched or cell == snp.cell_type)
        ]
        if row is None or not chosen:
            continue
        if {ref, alt} != {snp.ref, snp.alt}:
            raise SystemExit(f"{snp.id} is {ref}>{alt} in the scores and {snp.ref}>{snp.alt} in the table")
        means[place] = scores.values[row, chosen].mean() * (1 if alt == snp.alt else -1)
    return means


def agreement(effects: np.ndarray, prefers_alt: np.ndarray) -> dict[str, float]:
    """Share of SNPs whose effect has the measured sign, Wilson's interval, n, the binomial p and chance."""
    from scipy.stats import binomtest

    sided = np.isfinite(effects) & (effects != 0)
    n = int(sided.sum())
    agreeing = int(((effects[sided] > 0) == prefers_alt[sided]).sum())
    if not n:
        return {"n": 0, "agree": 0}
    test = binomtest(agreeing, n)
    low, high = test.proportion_ci(method="wilson")
    more, wanted = (effects[sided] > 0).mean(), prefers_alt[sided].mean()
    return {
        "n": n,
        "agree": agreeing,
        "share": agreeing / n,
        "low": low,
        "high": high,
        "p": test.pvalue,
        "chance": float(more * wanted + (1 - more) * (1 - wanted)),
    }


def judge(paths: list[Path], data: Path, by_file: bool = False) -> Table:
    """One row a file of scores, threshold and kind of tracks; ``by_file`` also for each measurement."""
    every = measurements(data / "asb")
    table = Table(
        ["scores", "measured", "SNPs", "tracks", "n", "agree", "share", "low", "high", "p", "chance"],
        digits={"share": 3, "low": 3, "high": 3, "chance": 3},
    )
    for path in paths:
        scores = read_scores(path)
        inside = every[every.id.isin(scores.rows)]
        once = inside.sort_values(["fdr_comb_pval", "comb_pval", "cell_type", "measured"]).drop_duplicates(
            "id"
        )
        groups: dict[str, Any] = {"all": once}
        if by_file:
            for (cell_type, assay), lines in inside.groupby(["cell_type", "measured"]):
                groups[f"{cell_type} {assay}"] = lines
        for name, lines in groups.items():
            for threshold, (column, limit) in THRESHOLDS.items():
                kept = lines if limit is None else lines[lines[column] < limit]
                for kind, assay, matched in (
                    ("DNASE, same cell type", "DNASE", True),
                    ("DNASE, mean", "DNASE", False),
                    ("CAGE, mean", "CAGE", False),
                ):
                    effects = alternate_effects(scores, kept, assay, matched)
                    found = agreement(effects, (kept.pref_allele == "alt").to_numpy())
                    if found["n"]:
                        row = {"scores": label_of(path), "measured": name, "SNPs": threshold, "tracks": kind}
                        table.add({**row, **found})
    return table


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    making = commands.add_parser("vcf", help="write the SNPs")
    making.add_argument("data", type=Path, help="folder with asb/ and human/")
    making.add_argument("-o", "--output", type=Path, required=True)
    judging = commands.add_parser("judge", help="judge scores of that VCF")
    judging.add_argument("scores", type=Path, nargs="+", help="HDF5 files of gexpr score-variants")
    judging.add_argument("data", type=Path)
    judging.add_argument("--by-file", action="store_true", help="also by cell type and assay measured")
    add_format(judging)
    arguments = parser.parse_args()
    if arguments.command == "vcf":
        write_vcf(arguments.data, arguments.output)
    else:
        judge(arguments.scores, arguments.data, arguments.by_file).print(arguments.format)


if __name__ == "__main__":
    main()
