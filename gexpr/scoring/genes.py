"""Scores of genes: statistics over the bins of each gene, from the predictions of reference and alternate."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray

from gexpr.results import Track, Variant
from gexpr.scoring.devices import indices, upload
from gexpr.scoring.gene_masks import (
    GeneBins,
    GeneIndex,
    nearest_tss_of,
    strand_matches,
    variant_bases,
)
from gexpr.scoring.statistics import compute
from gexpr.writers.gene_scores import GeneBlock, GeneName

ELEMENTS = 1 << 22
"""Predictions of either allele that are looked at together, unless the bins of one track are more."""


def gene_scores(
    reference: torch.Tensor,
    alternate: torch.Tensor,
    masks: Sequence[NDArray[np.bool_]],
    statistics: Sequence[str] = ("logFC",),
    *,
    pseudocount: float = 1.0,
    tracks: Sequence[Track] | None = None,
    left: Sequence[int] | None = None,
    right: Sequence[int] | None = None,
    elements: int = ELEMENTS,
) -> torch.Tensor:
    """Statistics of pairs of alleles over the bins of genes.

    Only bins of a gene are looked at, a bounded number at a time. A row's score depends on its own bins
    alone, up to what :mod:`gexpr.scoring.statistics` promises of rows that are computed together.

    Args:
        reference: (sequences, bins, tracks) predictions in natural scale.
        alternate: the same shape but for the first axis, on reference bins.
        masks: for every pair (genes, bins) bool, as :meth:`gexpr.scoring.gene_masks.GeneIndex.bins` gives
            them: every gene has at least one bin.
        statistics: names or aliases.
        pseudocount: the c of ``logFC``.
        tracks: as in :func:`gexpr.scoring.statistics.compute`.
        left: the place of every pair's reference in ``reference``; default 0, 1, 2, ...
        right: the same for ``alternate``.
        elements: predictions of one allele to look at together.

    Returns:
        (statistics, rows, tracks) float32 on the predictions' device: a row for every gene of the first
        pair, then of the second, and so on. Tracks of the other strand are not left out here; see
        :func:`gexpr.scoring.gene_masks.strand_matches`.
    """
    width = reference.shape[2]
    per_pair = [np.asarray(each, dtype=bool) for each in masks]
    pair = np.repeat(np.arange(len(per_pair)), [len(each) for each in per_pair])
    result = reference.new_empty((len(statistics), len(pair), width), dtype=torch.float32)
    if not len(pair) or not width:
        return result
    flat = np.concatenate(per_pair)
    counts = flat.sum(axis=1)
    if not counts.all():
        raise ValueError("a gene without bins")
    places = [np.arange(len(per_pair)) if each is None else np.asarray(each) for each in (left, right)]
    # Rows of like size together, padded to a size that follows from their own alone.
    padded = np.minimum(2 ** np.ceil(np.log2(counts)).astype(np.int64), flat.shape[1])
    device = reference.device
    for size in np.unique(padded).tolist():
        members = np.flatnonzero(padded == size)
        columns = min(width, max(1, elements // size))
        step = max(1, elements // (size * columns))
        for low in range(0, len(members), step):
            rows = members[low : low + step]
            # A stable sort puts a row's own bins first, in order.
            bins = np.argsort(~flat[rows], axis=1, kind="stable")[:, :size]
            mask = upload(torch.from_numpy(np.arange(size) < counts[rows, None]), device)
            at = upload(torch.from_numpy(bins), device)
            old, new = (indices(place[pair[rows]].tolist(), device)[:, None] for place in places)
            target = indices(rows.tolist(), device)
            for first in range(0, width, columns):
                span = slice(first, first + columns)
                pieces = reference[:, :, span][old, at], alternate[:, :, span][new, at]
                chosen = None if tracks is None else tracks[span]
                for number, name in enumerate(statistics):
                    values = compute(name, *pieces, mask, pseudocount=pseudocount, tracks=chosen)
                    result[number, target, span] = values
    return result


class GeneCollector:
    """Gathers the scores of a block of variants, in whatever order they come.

    Args:
        index: the genes.
        tracks: the columns of the scores.
        statistics: canonical names, in the order of the scores' first axis.
    """

    def __init__(self, index: GeneIndex, tracks: Sequence[Track], statistics: Sequence[str]) -> None:
        self.index = index
        self._tracks = tuple(tracks)
        self._statistics = tuple(statistics)
        self._variants: list[NDArray[np.int64]] = []
        self._genes: list[NDArray[np.int64]] = []
        self._coverage: list[NDArray[np.float64]] = []
        self._values: list[NDArray[np.float32]] = []

    def add(
        self, targets: Sequence[Sequence[int]], bins: Sequence[GeneBins], values: NDArray[np.float32]
    ) -> None:
        """Take the scores of some pairs of alleles.

        Args:
            targets: for every pair the rows of its variants in the block.
            bins: for every pair its genes.
            values: (statistics, rows, tracks) as :func:`gene_scores` returns them for these pairs; kept.
        """
        low = 0
        for rows, found in zip(targets, bins, strict=True):
            high = low + len(found.genes)
            for row in rows if high > low else ():
                self._variants.append(np.full(high - low, row, dtype=np.int64))
                self._genes.append(found.genes)
                self._coverage.append(found.coverage)
                self._values.append(values[:, low:high])
            low = high

    def block(self, variants: Sequence[Variant]) -> GeneBlock:
        """What was gathered, by variant and then by gene; tracks of the other strand are NaN."""
        empty = np.zeros(0, dtype=np.int64)
        variant = np.concatenate([empty, *self._variants])
        gene = np.concatenate([empty, *self._genes])
        coverage = np.concatenate([empty.astype(np.float64), *self._coverage])
        order = np.lexsort((gene, variant))
        variant, gene, coverage = variant[order], gene[order], coverage[order]
        shape = len(self._statistics), 0, len(self._tracks)
        values = np.concatenate([np.zeros(shape, dtype=np.float32), *self._values], axis=1)[:, order]
        present, local = np.unique(gene, return_inverse=True)
        genes = [self.index.genes[number] for number in present.tolist()]
        names = tuple(GeneName(each.gene_id, each.name, each.strand) for each in genes)
        values[:, ~strand_matches([each.strand for each in names], self._tracks)[local]] = np.nan
        distance = np.full(len(variant), np.nan)
        bounds = np.flatnonzero(np.diff(variant, prepend=-1, append=-1)).tolist()
        for low, high in pairwise(bounds):
            bases = variant_bases(variants[int(variant[low])])
            distance[low:high] = self.index.tss_distance(gene[low:high], *bases)
        scores = dict(zip(self._statistics, values, strict=True))
        near, near_distance = nearest_tss_of(self.index, variants)
        nearest = tuple(self.index.genes[number].gene_id if number >= 0 else "" for number in near.tolist())
        places = local.reshape(-1)
        return GeneBlock(variant, places, names, coverage, distance, scores, nearest, near_distance)
