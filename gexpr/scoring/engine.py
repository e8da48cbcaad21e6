"""Variants to scores: windows of both alleles, batches, predictions, statistics."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from gexpr.errors import ConfigError, GexprError
from gexpr.genome.codes import Codes
from gexpr.genome.fasta import Fasta
from gexpr.results import Variant
from gexpr.scoring import realign, statistics
from gexpr.scoring.definitions import AVERAGES, Mask, canonical_statistic
from gexpr.scoring.predictor import Predictor
from gexpr.scoring.prefetch import prefetch
from gexpr.scoring.transforms import check_statistics
from gexpr.variants.alleles import alternate_codes, reference_codes


class Windows(Protocol):
    """Where the engine gets sequences from; both methods return uint8 codes of ``length``.

    The window starts ``length // 2`` bases before ``variant.start``; the alternate one starts at
    the same genome position.
    """

    def reference(self, variant: Variant, length: int) -> Codes:
        """The reference window."""
        ...

    def alternate(self, variant: Variant, length: int) -> Codes:
        """The window with the alternate allele in place of the reference allele."""
        ...


class FastaWindows:
    """Windows of a FASTA.

    Args:
        fasta: the reference genome.
    """

    def __init__(self, fasta: Fasta) -> None:
        self.fasta = fasta

    def reference(self, variant: Variant, length: int) -> Codes:
        """The reference window, uint8 (length,)."""
        return reference_codes(self.fasta, variant, length)

    def alternate(self, variant: Variant, length: int) -> Codes:
        """The window with the alternate allele, uint8 (length,)."""
        return alternate_codes(self.fasta, variant, length)


class _Item(NamedTuple):
    """One sequence of a batch. ``rows`` are the output rows that wait for it; none for a reference.

    ``unchanged`` rows, on a reference, have an alternate window equal to it.
    """

    group: int
    codes: Codes
    edit: tuple[int, int]
    rows: list[int]
    unchanged: list[int]


class _Batch(NamedTuple):
    codes: torch.Tensor
    items: list[_Item]


def allele_limit(predictor: Predictor) -> int:
    """The longest allele, in bases, for which the variant's own bin stays inside both windows' output."""
    half = predictor.target_length * predictor.bin_size // 2
    return max(1, half - predictor.bin_size - predictor.flank)


class VariantScorer:
    """Scores variants with one predictor.

    Alternates of variants at the same position share one reference prediction, and equal
    alternates are predicted once. Scores do not depend on the company a variant is scored in.

    Args:
        predictor: the model with its batch shape, strands and shifts.
        windows: where sequences come from.
        statistics: names or aliases of statistics.
        pseudocount: the c of ``logFC``.
        mask: which bins are scored.
        average: ``predictions`` averages strands and shifts before the statistic, ``scores`` after it.

    Raises:
        ConfigError: an unknown name, or a statistic that a track's transform does not allow.
    """

    def __init__(
        self,
        predictor: Predictor,
        windows: Windows,
        *,
        statistics: Sequence[str] = ("logFC",),
        pseudocount: float = 1.0,
        mask: Mask | None = None,
        average: str = "predictions",
    ) -> None:
        if average not in AVERAGES:
            raise ConfigError(f"average must be one of {', '.join(AVERAGES)}, not {average!r}")
        if not pseudocount >= 0 or not np.isfinite(pseudocount):
            raise ConfigError(f"pseudocount must be 0 or more, not {pseudocount}")
        self.predictor = predictor
        self.windows = windows
        self.statistics = tuple(canonical_statistic(name) for name in statistics)
        self.pseudocount = float(pseudocount)
        self.mask = mask or Mask()
        self.average = average
        check_statistics(predictor.tracks, self.statistics)

    def score(
        self, variants: Sequence[Variant], advance: Callable[[int], None] | None = None
    ) -> dict[str, NDArray[np.float32]]:
        """Scores of a block of variants.

        Args:
            variants: in any order; those whose status is not ``ok`` are not looked at.
            advance: called with the number of rows finished, as they finish.

        Returns:
            Statistic name -> float32 (len(variants), tracks), NaN in rows that are not ``ok``.

        Raises:
            GexprError: memory does not suffice, or a prediction is not finite.
        """
        shape = len(variants), len(self.predictor.tracks)
        scores = {name: np.full(shape, np.nan, dtype=np.float32) for name in self.statistics}

        def store(rows: list[list[int]], values: torch.Tensor) -> None:
            # One transfer for all statistics: (statistics, pairs, tracks).
            host = values.cpu().numpy()
            if not np.isfinite(host).all():
                bad = int(np.argmin(np.isfinite(host).all(axis=(0, 2))))
                variant = variants[rows[bad][0]]
                raise GexprError(
                    f"{variant.chrom}:{variant.pos} {variant.ref}>{variant.alt}: the score is not finite "
                    f"(precision {self.predictor.precision}, pseudocount {self.pseudocount:g}): "
                    "use --precision fp32 and a pseudocount above 0"
                )
            for statistic, per_pair in zip(self.statistics, host, strict=True):
                for targets, row in zip(rows, per_pair, strict=True):
                    scores[statistic][targets] = row
            if advance is not None:
                advance(sum(map(len, rows)))

        # Results are fetched one batch late, so that the device has work while the host waits.
        waiting: tuple[list[list[int]], torch.Tensor] | None = None
        for result in self._results(variants):
            if waiting is not None:
                store(*waiting)
            waiting = result
        if waiting is not None:
            store(*waiting)
        return scores

    def _results(self, variants: Sequence[Variant]) -> Iterator[tuple[list[list[int]], torch.Tensor]]:
        """For each batch with alternates in it: rows of every pair, (statistics, pairs, tracks)."""
        carried_group = -1
        carried: list[torch.Tensor] = []
        for batch in prefetch(self._batches(variants)):
            per_pass, covered = self._predict(batch)
            # The last reference of the batch before stands in front of this batch's sequences.
            slots = {carried_group: 0} if carried else {}
            offset = len(slots)
            stacked = per_pass
            if carried:
                stacked = [torch.cat([old, new]) for old, new in zip(carried, per_pass, strict=True)]
            references, alternates, rows, edits = [], [], [], []
            for place, item in enumerate(batch.items):
                if not item.rows:
                    slots[item.group] = carried_place = place + offset
                    carried_group = item.group
                    if item.unchanged:
                        references.append(carried_place)
                        alternates.append(carried_place)
                        rows.append(item.unchanged)
                        edits.append(place)
                else:
                    references.append(slots[item.group])
                    alternates.append(place + offset)
                    rows.append(item.rows)
                    edits.append(place)
            if rows:
                device = self.predictor.device
                left = torch.tensor(references, device=device)
                right = torch.tensor(alternates, device=device)
                scored = self._scored_bins(batch, edits) & covered[torch.tensor(edits, device=device)]
                yield rows, self._statistics(stacked, left, right, scored)
            last = slots[carried_group]
            carried = [predictions[last : last + 1].clone() for predictions in stacked]

    def _statistics(
        self, stacked: list[torch.Tensor], left: torch.Tensor, right: torch.Tensor, scored: torch.Tensor
    ) -> torch.Tensor:
        total: torch.Tensor | None = None
        for predictions in stacked:
            reference, alternate = predictions[left], predictions[right]
            values = torch.stack(
                [
                    statistics.compute(
                        name,
                        reference,
                        alternate,
                        scored,
                        pseudocount=self.pseudocount,
                        tracks=self.predictor.tracks,
                    )
                    for name in self.statistics
                ]
            )
            total = values if total is None else total + values
        assert total is not None
        return total / len(stacked)

    def _predict(self, batch: _Batch) -> tuple[list[torch.Tensor], torch.Tensor]:
        """Predictions on reference bins, one tensor (or one a pass for ``scores``), and covered bins."""
        predictor = self.predictor
        device = predictor.device
        lengths = torch.tensor([item.edit for item in batch.items], dtype=torch.int64, device=device)
        covered = torch.ones((len(batch.items), predictor.target_length), dtype=torch.bool, device=device)
        per_pass: list[torch.Tensor] = []
        has_indel = any(old != new for old, new in (item.edit for item in batch.items))
        for each, predictions in predictor.predict_passes(batch.codes):
            if has_indel:
                anchor = predictor.context_length // 2 - each.shift
                edits = realign.Edits(torch.full_like(lengths[:, 0], anchor), lengths[:, 0], lengths[:, 1])
                geometry = predictor.bin_size, predictor.first_base
                predictions = realign.to_reference_bins(predictions, edits, *geometry)
                covered &= realign.covered_bins(edits, predictor.target_length, *geometry)
            if per_pass and self.average == "predictions":
                per_pass[0] = per_pass[0] + predictions
            else:
                per_pass.append(predictions)
        if self.average == "predictions":
            per_pass[0] = per_pass[0] / len(predictor.passes)
        return per_pass, covered

    def _scored_bins(self, batch: _Batch, places: Sequence[int]) -> torch.Tensor:
        """(pairs, bins) bool: the bins that ``mask`` asks for."""
        predictor = self.predictor
        bins = torch.arange(predictor.target_length, device=predictor.device)[None, :]
        if self.mask.distance is None:
            return torch.ones(
                (len(places), predictor.target_length), dtype=torch.bool, device=predictor.device
            )
        lengths = torch.tensor([batch.items[place].edit[0] for place in places], device=predictor.device)
        lengths = lengths[:, None]
        start = predictor.context_length // 2 - predictor.first_base
        # An insertion has no reference base; it lies between two, and its score on the left one.
        low = torch.where(lengths == 0, start - 1, start) - self.mask.distance
        high = start + lengths.clamp_min(1) + self.mask.distance
        return ((bins + 1) * predictor.bin_size > low) & (bins * predictor.bin_size < high)

    def _batches(self, variants: Sequence[Variant]) -> Iterator[_Batch]:
        size = self.predictor.batch_size
        pin = self.predictor.device.type == "cuda"
        items: list[_Item] = []
        for item in self._items(variants):
            items.append(item)
            if len(items) == size:
                yield _pack(items, pin)
                items = []
        if items:
            yield _pack(items, pin)

    def _items(self, variants: Sequence[Variant]) -> Iterator[_Item]:
        """Every distinct sequence: each reference directly before its alternates."""
        length = self.predictor.window_length
        for group, alleles in enumerate(_distinct(variants)):
            first = variants[next(iter(alleles.values()))[0]]
            reference = self.windows.reference(first, length)
            unchanged: list[int] = []
            changed: list[_Item] = []
            for (ref, alt), rows in alleles.items():
                codes = self.windows.alternate(variants[rows[0]], length)
                if len(ref) == len(alt) and np.array_equal(codes, reference):
                    unchanged += rows
                else:
                    changed.append(_Item(group, codes, (len(ref), len(alt)), rows, []))
            yield _Item(group, reference, (0, 0), [], unchanged)
            yield from changed


def _distinct(variants: Sequence[Variant]) -> list[dict[tuple[str, str], list[int]]]:
    """For each position with alleles to score: (normalized REF, ALT) -> rows."""
    groups: dict[tuple[str, int], dict[tuple[str, str], list[int]]] = {}
    for row, variant in enumerate(variants):
        if variant.ok:
            alleles = groups.setdefault((variant.contig, variant.start), {})
            alleles.setdefault((variant.norm_ref, variant.norm_alt), []).append(row)
    return list(groups.values())


def sequence_count(variants: Sequence[Variant]) -> int:
    """Sequences that :meth:`VariantScorer.score` predicts for a block: distinct references and alternates."""
    return sum(1 + len(alleles) for alleles in _distinct(variants))


def _pack(items: list[_Item], pin: bool) -> _Batch:
    codes = torch.from_numpy(np.stack([item.codes for item in items]))
    # Codes have gone into the batch; the items need not keep them.
    items = [item._replace(codes=item.codes[:0]) for item in items]
    return _Batch(codes.pin_memory() if pin else codes, items)


def strongest(
    scores: Mapping[str, NDArray[np.floating]], statistic: str, count: int
) -> list[tuple[int, int, float]]:
    """The rows with the largest absolute score of any track: (row, track, score), strongest first."""
    values = np.asarray(scores[statistic], dtype=np.float32)
    if not values.size or count < 1:
        return []
    magnitude = np.where(np.isnan(values), -1.0, np.abs(values))
    track = magnitude.argmax(axis=1)
    best = magnitude[np.arange(len(values)), track]
    order = np.argsort(-best, kind="stable")[:count]
    return [(int(row), int(track[row]), float(values[row, track[row]])) for row in order if best[row] >= 0]
