#!/usr/bin/env python3
"""Make a table for gexpr train of the DNase-hypersensitive sites of four cell types.

    python dhs_table.py dhs_200bp.tsv.gz dhs.tsv.gz

Each site is open in one cell type: the columns named after the cell types are 1 there and 0 elsewhere.
Input columns: sequence, cell, split (training, validation, test).
"""

from __future__ import annotations

import sys

import pandas as pd

SPLITS = {"training": "train", "validation": "valid", "test": "test"}


def main(source: str, output: str) -> None:
    """Write ``output`` with sequence, split and a column a cell type."""
    sites = pd.read_csv(source, sep="\t")
    table = pd.concat(
        [sites["sequence"], sites["split"].map(SPLITS), pd.get_dummies(sites["cell"], dtype=int)], axis=1
    )
    table.to_csv(output, sep="\t", index=False)


if __name__ == "__main__":
    main(*sys.argv[1:])
