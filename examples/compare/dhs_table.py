#!/usr/bin/env python3
"""Make a table for gexpr train of the DNase-hypersensitive sites of four cell types.

    python dhs_table.py dhs_200bp.tsv.gz windows.tsv dhs.tsv.gz

Each site is open in one cell type: the columns named after the cell types are 1 there and 0 elsewhere.
Input columns: chr, seq_start, sequence, cell, split (training, validation, test). Sites that reach into a
window of windows.tsv (chrom, start, end, split) whose split is not train are left out, so that what is
trained on the table has seen nothing of the windows that models are judged on.
"""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd

SPLITS = {"training": "train", "validation": "valid", "test": "test"}


def held_out(sites: pd.DataFrame, windows: pd.DataFrame) -> np.ndarray:
    """Whether each site reaches into a window that is not for training."""
    found = np.zeros(len(sites), dtype=bool)
    starts = sites["seq_start"].to_numpy()
    ends = starts + sites["sequence"].str.len().to_numpy()
    for window in windows[windows["split"] != "train"].itertuples():
        found |= (sites["chr"] == window.chrom) & (starts < window.end) & (ends > window.start)
    return found


def main(source: str, windows: str, output: str) -> None:
    """Write ``output`` with sequence, split and a column a cell type."""
    sites = pd.read_csv(source, sep="\t")
    left_out = held_out(sites, pd.read_csv(windows, sep="\t"))
    print(
        f"{left_out.sum():,} of {len(sites):,} sites lie in held-out windows and are left out",
        file=sys.stderr,
    )
    sites = sites[~left_out]
    table = pd.concat(
        [sites["sequence"], sites["split"].map(SPLITS), pd.get_dummies(sites["cell"], dtype=int)], axis=1
    )
    table.to_csv(output, sep="\t", index=False)


if __name__ == "__main__":
    main(*sys.argv[1:])
