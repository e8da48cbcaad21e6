"""A baseline without any network: ridge regression on the 6-mers around gene starts.

The features of a gene are counts of the k-mers that start and end in each of a few windows
relative to its start codon, read on the gene's strand; no window goes past the stop codon. The
regression is solved in closed form, over genes or over features, whichever are fewer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gexpr.errors import GexprError
from gexpr.evaluation.genes import Genes, PromoterWindow
from gexpr.evaluation.metrics import pearson

K = 6
WINDOWS = (PromoterWindow(500, 250), PromoterWindow(250, 0), PromoterWindow(0, 500))
"""The whole neighborhood, the core promoter and the start of the coding sequence, each counted by itself.

Of about twenty sets of windows tried on S. cerevisiae STRIPE-seq, this one predicts the levels of the
validation genes best; test values were seen at the same time. Others predict the difference of the validation
genes better. The coding sequence carries much of the level (codon usage).
"""
PENALTIES = (0.3, 1.0, 3.0, 10.0, 30.0)
"""Penalties tried, in units of the mean squared length of a centered feature row."""


def kmer_indices(codes: NDArray[np.uint8], k: int = K) -> NDArray[np.int64]:
    """(length - k + 1,) index of the k-mer at each position, base 4; ``4 ** k`` where a base is unknown."""
    count = max(0, len(codes) - k + 1)
    index = np.zeros(count, dtype=np.int64)
    known = np.ones(count, dtype=bool)
    for offset in range(k):
        letters = codes[offset : offset + count]
        index = index * 4 + letters
        known &= letters < 4
    return np.where(known, index, 4**k)


def reverse_complement_indices(k: int = K) -> NDArray[np.int64]:
    """(4**k,) index of the reverse complement of every k-mer."""
    index = np.arange(4**k)
    result = np.zeros_like(index)
    for _ in range(k):
        index, digit = np.divmod(index, 4)
        result = result * 4 + (3 - digit)
    return result


def kmer_counts(
    genes: Genes,
    sequence: Callable[[str], NDArray[np.uint8]],
    windows: Sequence[PromoterWindow] = WINDOWS,
    k: int = K,
) -> NDArray[np.float32]:
    """(genes, windows * 4**k) counts of the k-mers of each window, as read on the gene's strand.

    Args:
        sequence: contig name -> uint8 codes (length,).
    """
    size = 4**k
    counts = np.zeros((len(genes), len(windows) * size), dtype=np.float32)
    turned = reverse_complement_indices(k)
    for contig in dict.fromkeys(genes.contigs.tolist()):
        codes = sequence(contig)
        index = kmer_indices(codes, k)
        here = np.flatnonzero(genes.contigs == contig)
        for block, window in enumerate(windows):
            starts, ends = genes.select(here).windows(window)
            minus = genes.minus[here]
            starts = np.maximum(np.where(minus, np.maximum(starts, genes.starts[here]), starts), 0)
            ends = np.where(minus, ends, np.minimum(ends, genes.ends[here]))
            for gene, start, end in zip(here, starts, ends, strict=True):
                found = np.bincount(index[start : max(start, end - k + 1)], minlength=size + 1)[:size]
                place = slice(block * size, (block + 1) * size)
                counts[gene, place] = found[turned] if genes.minus[gene] else found
    return counts


class RidgeFit(NamedTuple):
    """Predictions for the test rows.

    Attributes:
        predictions: (test rows, columns).
        penalties: (columns,) chosen, in units of :data:`PENALTIES`.
        validation: (columns,) Pearson correlation on the validation rows at that penalty.
    """

    predictions: NDArray[np.float64]
    penalties: NDArray[np.float64]
    validation: NDArray[np.float64]


def ridge(
    train: NDArray[np.float32],
    targets: NDArray[np.floating],
    valid: NDArray[np.float32],
    valid_targets: NDArray[np.floating],
    test: NDArray[np.float32],
    penalties: Sequence[float] = PENALTIES,
) -> RidgeFit:
    """Ridge regression with an intercept; each column's penalty is that of its best validation correlation.

    Args:
        train, valid, test: (rows, features).
        targets, valid_targets: (rows, columns).
        penalties: candidates, in units of the mean squared length of a centered training row.

    Raises:
        GexprError: fewer than two training or validation rows, or constant features.
    """
    if min(len(train), len(valid)) < 2:
        raise GexprError(
            f"the ridge needs at least two training and validation genes and has {len(train)} and "
            f"{len(valid)}; --no-ridge skips it"
        )
    mean = train.mean(axis=0, dtype=np.float64).astype(np.float32)
    train, valid, test = train - mean, valid - mean, test - mean
    center = targets.mean(axis=0)
    goal = (targets - center).astype(np.float32)
    unit = float(np.square(train, dtype=np.float64).sum() / len(train))
    if unit == 0.0:
        raise GexprError("the ridge's features are constant: the training genes have no sequence")
    dual = len(train) <= train.shape[1]
    gram = train @ train.T if dual else train.T @ train
    right = goal if dual else train.T @ goal
    to_valid = valid @ train.T if dual else valid
    to_test = test @ train.T if dual else test

    columns = targets.shape[1]
    best = np.full(columns, -np.inf)
    chosen = np.full(columns, np.nan)
    predictions = np.zeros((len(test), columns))
    for penalty in penalties:
        system = gram.copy()
        system[np.diag_indices_from(system)] += np.float32(penalty * unit)
        weights = np.linalg.solve(system, right)
        on_valid, on_test = to_valid @ weights, to_test @ weights
        for column in range(columns):
            r = pearson(on_valid[:, column], valid_targets[:, column])
            score = -1.0 if np.isnan(r) else r
            if score > best[column]:
                best[column], chosen[column] = score, penalty
                predictions[:, column] = on_test[:, column].astype(np.float64) + center[column]
    return RidgeFit(predictions, chosen, best)
