#!/usr/bin/env python3
"""Tables of a comparison: one row a model, from the folders that training and evaluation wrote.

    python tables.py yeast OUT        bins and genes of a dataset of gexpr prepare
    python tables.py promoters OUT    expression of measured constructs, with subsets
    python tables.py sequences OUT    values of other sequences of a table, without subsets
    python tables.py human OUT        bins by assay, of a folder of TFRecords
    python tables.py planted OUT      promoters whose enhancer is far away

Of OUT are read evaluations/NAME/metrics.tsv (human: groups.tsv, too; planted: planted_*.tsv of planted.py),
those of the kind that is asked for (yeast: with genes) and whose names --only takes, and, where it is
there, runs/NAME/checkpoint. Runs named NAME-seed1, NAME-seed2, ... are one row: means over the runs, and
behind the sign ± the standard deviation between them (n - 1). In the TSV these are columns of their own,
NAME_sd. Minutes (of the clock and of the processor) and peak memory are those of training, as its summary
in the checkpoint has them. Markdown comes as two tables where one would be too wide; columns without any
value are left out of it.

yeast: Pearson's r on the test split, over bins as log(1 + x) and raw, of every track and as mean of the
tracks; over genes, of each condition and of differences. Rows of the 6-mer ridge and of the replicates,
from the first evaluation that has them.

promoters: Pearson's r and Spearman's rho of every subset, of pairs those of the differences; and the score
of the DREAM challenge 2022 from them, (r_all^2 + .3 (high^2 + low^2 + native^2 + random^2) + .5
challenging^2 + 1.25 SNV^2 + .3 motif_perturbation^2 + .4 motif_tiling^2) / 4.65, with rho instead of r^2
for the second one. It is computed from the sequences of the evaluated split alone, and so is NOT the
challenge's score, whose test set is another. A subset that the split does not hold is left out of sum and
divisor, and named below the table.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
from collections.abc import Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pandas as pd
from compare_tools import Table, add_format

from gexpr import checkpoints

COST = {"steps": "steps", "minutes": "minutes", "cpu_minutes": "CPU minutes", "peak_mebibytes": "peak MiB"}
ABOUT = ["model", "runs", "architecture", "parameters", *COST.values()]
WHOLE = {"parameters": 0, "steps": 0, "peak MiB": 0, "minutes": 1, "CPU minutes": 1}
DREAM = {
    "all": 1.0,
    "high": 0.3,
    "low": 0.3,
    "native": 0.3,
    "random": 0.3,
    "challenging": 0.5,
    "SNV": 1.25,
    "motif_perturbation": 0.3,
    "motif_tiling": 0.4,
}
LEVELS = {
    "row": "all",
    "subset yeast": "native",
    "difference SNV_pairs": "SNV",
    "difference motif_perturbation_pairs": "motif_perturbation",
    "difference motif_tiling_pairs": "motif_tiling",
}

Values = dict[str, float]


def about(checkpoint: Path) -> dict[str, Any]:
    """Architecture, parameters and what training cost; empty without a checkpoint."""
    if not (checkpoint / "config.json").is_file():
        return {}
    info = checkpoints.describe(checkpoint)
    found: dict[str, Any] = {"architecture": info.architecture, "parameters": info.parameters}
    found |= {title: info.training[key] for key, title in COST.items() if info.training.get(key) is not None}
    return found


def grouped(names: list[str]) -> dict[str, list[str]]:
    """Runs by model: NAME-seed1 and NAME-seed2 are of NAME."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(re.sub(r"-seed\d+$", "", name), []).append(name)
    return groups


def joined(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """One row of the rows of several runs: means, and standard deviations where there are several."""
    row: dict[str, Any] = {}
    for key in dict.fromkeys(key for run in runs for key in run):
        values = [run[key] for run in runs if key in run]
        if len(set(values)) == 1 or isinstance(values[0], str):
            row[key] = values[0] if len(set(values)) == 1 else "several"
        else:
            row[key] = statistics.fmean(values)
        if len(values) > 1 and isinstance(values[0], float) and key not in COST.values():
            row[f"{key}_sd"] = statistics.stdev(values)
    return row


def assemble(
    folder: Path, found: Mapping[str, Values], others: Mapping[str, Values] | None = None, apart: str = "$^"
) -> Table:
    """The table of models by name.

    Args:
        folder: where runs/ is.
        found: values by run.
        others: values of rows that are no model, by title.
        apart: regular expression of the columns that Markdown has in a second table.
    """
    rows = []
    for name, runs in grouped(list(found)).items():
        whole = joined([{**about(folder / "runs" / run / "checkpoint"), **found[run]} for run in runs])
        rows.append({"model": name, "runs": len(runs), **whole})
    rows += [{"model": name, **values} for name, values in (others or {}).items()]
    names = dict.fromkeys([*ABOUT, *(key for row in rows for key in row)])
    table = Spread(list(names), {name: WHOLE.get(name, 3) for name in names}, apart)
    for row in rows:
        table.add(row)
    return table


class Spread(Table):
    """A table whose Markdown has means and standard deviations in one cell, and some columns apart."""

    def __init__(self, columns: list[str], digits: Mapping[str, int], apart: str) -> None:
        super().__init__(columns, digits)
        self.apart = apart

    def markdown(self) -> str:
        """Columns NAME_sd are joined to NAME."""
        names = [name for name in self.columns if not name.endswith("_sd")]
        apart = [name for name in names if re.search(self.apart, name)]
        parts = [[name for name in names if name not in apart], ["model", *apart] if apart else []]
        return "\n\n".join(self._part(part) for part in parts if part)

    def _part(self, names: list[str]) -> str:
        plain = Table(names)
        for row in self.rows:
            cells = {}
            for name in names:
                cells[name] = self.cell(name, row.get(name))
                if f"{name}_sd" in row:
                    cells[name] += f" ± {self.cell(name, row[f'{name}_sd'])}"
            if any(cells[name] for name in names[1:]):
                plain.add(cells)
        return plain.markdown()


def wanted(name: str, only: str) -> bool:
    """Whether patterns, separated by commas, take a name; those after ^ leave it out."""
    patterns = only.split(",") if only else []
    out = [each[1:] for each in patterns if each.startswith("^")]
    taken = [each for each in patterns if not each.startswith("^")] or ["*"]
    return any(fnmatch(name, each) for each in taken) and not any(fnmatch(name, each) for each in out)


def kind_of(metrics: pd.DataFrame) -> str:
    """Which of the tables an evaluation belongs to, by its levels."""
    levels = set(metrics.level)
    if "row" in levels:
        return (
            "promoters"
            if any(level.startswith(("subset", "difference")) for level in levels)
            else "sequences"
        )
    return "yeast" if "gene" in levels else "human"


def evaluations(folder: Path, kind: str, only: str = "") -> dict[str, pd.DataFrame]:
    """The metrics of every evaluation of a kind, by name.

    Raises:
        SystemExit: there is none.
    """
    paths = sorted((folder / "evaluations").glob("*/metrics.tsv"))
    tables = {path.parent.name: read(path) for path in paths if wanted(path.parent.name, only)}
    found = {name: table for name, table in tables.items() if kind_of(table) == kind}
    if not found:
        raise SystemExit(f"{folder}/evaluations/*/metrics.tsv: none of {len(paths)} is of the kind {kind!r}")
    return found


def read(path: Path) -> pd.DataFrame:
    """A TSV; only ``nan`` and nothing are not numbers."""
    return pd.read_csv(path, sep="\t", keep_default_na=False, na_values=["nan", ""])


def yeast_values(metrics: pd.DataFrame, source: str) -> Values:
    """Pearson's r of one source over bins, genes and differences."""
    rows = metrics[(metrics.source == source) & (metrics.statistic == "pearson")]
    values: Values = {}
    for transform in ("log1p", "raw"):
        bins = rows[(rows.level == "bin") & (rows["transform"] == transform)]
        if len(bins):
            values[f"mean {transform}"] = float(bins.value.mean())
            values |= {f"{row['name']} {transform}": float(row["value"]) for _, row in bins.iterrows()}
    genes = rows[rows.level == "gene"]
    shared = os.path.commonprefix(list(genes["name"])) if len(genes) > 1 else ""  # noqa: RUF071
    shared = shared[: shared.rfind(" ") + 1]
    for level in ("gene", "difference"):
        for _, row in rows[rows.level == level].iterrows():
            values[f"{level}: {row['name'].replace(shared, '')}"] = float(row["value"])
    return values


def yeast(folder: Path, only: str = "") -> Table:
    """Bins and genes, with the ridge as floor and the replicates as ceiling."""
    tables = evaluations(folder, "yeast", only)
    found = {name: yeast_values(table, "model") for name, table in tables.items()}
    others: dict[str, Values] = {}
    for source, title in (("ridge", "6-mer ridge"), ("replicates", "replicates")):
        there = [table for table in tables.values() if (table.source == source).any()]
        if there:
            others[title] = yeast_values(there[0], source)
    models = {name: values for name, values in found.items() if values}
    return assemble(folder, models, others, r"^(?!mean ).* (log1p|raw)$")


def dream_score(values: Mapping[str, float], statistic: str) -> tuple[float, list[str]]:
    """The challenge's weighted mean over the subsets that are there, and the names of those missing."""
    power = 2 if statistic == "pearson" else 1
    there = {name: values[f"{name} {statistic}"] for name in DREAM if f"{name} {statistic}" in values}
    if not there:
        raise SystemExit(f"no subset with {statistic} that the score is made of: {', '.join(DREAM)}")
    total = sum(DREAM[name] * value**power for name, value in there.items())
    return total / sum(DREAM[name] for name in there), [name for name in DREAM if name not in there]


def subset_of(level: str) -> str:
    """What the table calls a level of the metrics."""
    return LEVELS.get(level, level.removeprefix("subset ").removeprefix("difference "))


def table_values(metrics: pd.DataFrame) -> Values:
    """Pearson's r and Spearman's rho of every subset and kind of pairs, by track if there are several."""
    values: Values = {}
    several = metrics["name"].nunique() > 1
    for statistic in ("pearson", "spearman"):
        for _, row in metrics[metrics.statistic == statistic].iterrows():
            if pd.notna(row["value"]):
                track = f"{row['name']} " if several else ""
                values[f"{track}{subset_of(row['level'])} {statistic}"] = float(row["value"])
    return values


def promoters(folder: Path, only: str = "") -> tuple[Table, str]:
    """Subsets and scores; and how many sequences or pairs of each the split holds."""
    found, notes = {}, ""
    for name, table in evaluations(folder, "promoters", only).items():
        values = table_values(table)
        scores: Values = {}
        missing: list[str] = []
        for statistic in ("pearson", "spearman"):
            scores[f"score {statistic}"], missing = dream_score(values, statistic)
        found[name] = scores | values
        counts = table[table.statistic == "pearson"]
        sizes = {subset_of(row["level"]): int(row["n"]) for _, row in counts.iterrows()}
        notes = "n: " + ", ".join(f"{subset} {size:,}" for subset, size in sizes.items()) + "."
        if missing:
            notes += f" Not in this split, and left out of the scores: {', '.join(missing)}."
    return assemble(folder, found, apart=r"(?<!score) spearman$"), notes


def sequences(folder: Path, only: str = "") -> Table:
    """Every track of tables of sequences."""
    tables = evaluations(folder, "sequences", only)
    return assemble(folder, {name: table_values(table) for name, table in tables.items()})


def human(folder: Path, only: str = "") -> Table:
    """Mean and median of Pearson's r over the tracks of an assay, raw bins and log(1 + x)."""
    found: dict[str, Values] = {}
    for name in evaluations(folder, "human", only):
        table = read(folder / "evaluations" / name / "groups.tsv")
        rows = table[(table.source == "model") & (table.level == "bin") & (table.statistic == "pearson")]
        values = {
            f"{row['assay']} {transform} {statistic}": float(row[statistic])
            for transform in ("raw", "log1p")
            for _, row in rows[rows["transform"] == transform].iterrows()
            for statistic in ("mean", "median")
        }
        if values:
            found[name] = values
    return assemble(folder, found, apart=" log1p ")


def planted(folder: Path, only: str = "") -> Table:
    """AUROC of on against off promoters, all and by distance of the enhancer."""
    found: dict[str, Values] = {}
    for path in sorted(folder.glob("planted_*.tsv")):
        for _, row in read(path).iterrows():
            if wanted(str(row["model"]), only):
                found[str(row["model"])] = {str(key): float(row[key]) for key in row.index if key != "model"}
    if not found:
        raise SystemExit(f"{folder}/planted_*.tsv: there is none")
    return assemble(folder, found)


TABLES = {"yeast": yeast, "sequences": sequences, "human": human, "planted": planted}


def main() -> None:
    """Read the command line and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("kind", choices=(*TABLES, "promoters"))
    parser.add_argument("folder", type=Path, metavar="OUT")
    parser.add_argument(
        "--only", default="", help="patterns of names, between commas; ^ before one leaves out"
    )
    add_format(parser)
    arguments = parser.parse_args()
    notes = ""
    if arguments.kind == "promoters":
        table, notes = promoters(arguments.folder, arguments.only)
    else:
        table = TABLES[arguments.kind](arguments.folder, arguments.only)
    table.print(arguments.format)
    if notes and arguments.format == "markdown":
        print(f"\n{notes}")


if __name__ == "__main__":
    main()
