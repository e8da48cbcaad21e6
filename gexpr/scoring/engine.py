"""Variants to scores: windows of both alleles, batches, predictions, statistics."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, NoReturn, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from gexpr.errors import ConfigError, GexprError
from gexpr.genome.codes import Codes
from gexpr.genome.fasta import Fasta
from gexpr.genome.windows import CENTERED, WindowRule
from gexpr.results import Variant
from gexpr.scoring import realign, statistics
from gexpr.scoring.aggregate import Aggregate
from gexpr.scoring.definitions import AVERAGES, ENGINES, Mask, canonical_statistic
from gexpr.scoring.devices import Download, indices
from gexpr.scoring.genes import GeneCollector, gene_scores
from gexpr.scoring.incremental import IncrementalPredictor, Sequences
from gexpr.scoring.predictor import Pass, Predictor
from gexpr.scoring.prefetch import prefetch
from gexpr.scoring.transforms import check_statistics
from gexpr.variants.alleles import alternate_codes, reference_codes

_GROUPS: dict[str, Callable[[Pass], Hashable]] = {
    "predictions": lambda each: 0,
    "scores": lambda each: each,
    "checkpoint-scores": lambda each: each.member,
}
"""Where averages are taken -> passes with equal values are averaged before the statistic."""

REFERENCE, ALTERNATE, PROFILE_START = "REF", "ALT", "profile_start"
PROFILES = (REFERENCE, ALTERNATE, PROFILE_START)
"""What :meth:`VariantScorer.score` calls predictions, and where they begin."""


class Windows(Protocol):
    """Where the engine gets sequences from, as uint8 codes of ``length``.

    A window starts at ``start``, by default ``length // 2`` bases before ``variant.start``; the
    alternate one starts at the same genome position.
    """

    def reference(self, variant: Variant, length: int, start: int | None = None) -> Codes:
        """The reference window."""
        ...

    def alternate(self, variant: Variant, length: int, start: int | None = None) -> Codes:
        """The window with the alternate allele in place of the reference allele."""
        ...

    def genome(self, contig: str, start: int, end: int) -> Codes:
        """The reference between two positions, which may lie outside the contig."""
        ...


class FastaWindows:
    """Windows of a FASTA.

    Args:
        fasta: the reference genome.
    """

    def __init__(self, fasta: Fasta) -> None:
        self.fasta = fasta

    def reference(self, variant: Variant, length: int, start: int | None = None) -> Codes:
        """The reference window, uint8 (length,)."""
        return reference_codes(self.fasta, variant, length, start)

    def alternate(self, variant: Variant, length: int, start: int | None = None) -> Codes:
        """The window with the alternate allele, uint8 (length,)."""
        return alternate_codes(self.fasta, variant, length, start)

    def genome(self, contig: str, start: int, end: int) -> Codes:
        """The reference between two positions, uint8 (end - start,)."""
        return self.fasta.codes(contig, start, end)


class _Rows(NamedTuple):
    """Output rows that share an alternate: what it replaces, and where.

    ``edit`` are the lengths of the trimmed alleles, ``anchor`` the index of the first reference base in
    the context without shift.
    """

    rows: list[int]
    edit: tuple[int, int]
    anchor: int


class _Item(NamedTuple):
    """One sequence of a batch: a reference (``alternate`` is None) or an alternate.

    ``unchanged``, on a reference, are alternates equal to it. ``changed`` are the window's bases that
    differ from the reference's.
    """

    group: int
    codes: Codes
    alternate: _Rows | None
    unchanged: list[_Rows]
    changed: tuple[int, int]
    window: tuple[str, int]


class _Batch(NamedTuple):
    codes: torch.Tensor
    items: list[_Item]


class _Pair(NamedTuple):
    """A reference and an alternate, by their places among the predictions, and the rows they score.

    ``window`` are the contig and the start of the context, without shift.
    """

    left: int
    right: int
    rows: _Rows
    place: int
    window: tuple[str, int]


class _Predicted(NamedTuple):
    """Predictions of a batch, a tensor for each group of passes that are averaged before the statistic, and
    the pairs among them; ``covered`` (pairs, bins).
    """

    passes: list[torch.Tensor]
    pairs: list[_Pair]
    covered: torch.Tensor

    @property
    def sides(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Places of the references and of the alternates, (pairs,) each."""
        device = self.covered.device
        return indices([pair.left for pair in self.pairs], device), indices(
            [pair.right for pair in self.pairs], device
        )

    @property
    def rows(self) -> list[list[int]]:
        """The output rows of every pair."""
        return [pair.rows.rows for pair in self.pairs]


def allele_limit(predictor: Predictor, window_rule: WindowRule = CENTERED) -> int:
    """The longest allele, in bases, for which the variant's own bin stays inside both windows' output.

    Raises:
        ConfigError: the window rule would move variants out of the model's output.
    """
    try:
        offset = window_rule.largest_offset(predictor.bin_size)
    except ValueError as error:
        raise ConfigError(f"{error}; give 0, bin, or {-(-predictor.bin_size // 2)} and more") from None
    half = predictor.target_length * predictor.bin_size // 2
    # The one bin of a model of constructs is the whole window, and need not have neighbors.
    own = predictor.bin_size if predictor.target_length > 1 else 0
    if offset + predictor.flank + own >= half:
        raise ConfigError(
            f"a maximum offset of {window_rule} bp is too large: the model predicts only {half:,} bp on each "
            "side of a window's middle"
        )
    return max(1, half - own - predictor.flank - offset)


class VariantScorer:
    """Scores variants with one predictor.

    Alternates in the same window share one reference prediction, and equal alternates are predicted
    once. Scores do not depend on the company a variant is scored in.

    Args:
        predictor: the model with its batch shape, strands and shifts.
        windows: where sequences come from.
        statistics: names or aliases of statistics.
        pseudocount: the c of ``logFC``.
        mask: which bins are scored.
        average: ``predictions`` averages strands, shifts and the members of an ensemble before the
            statistic, ``scores`` after it; ``checkpoint-scores`` strands and shifts before it, members after.
        aggregate: ``celltype`` or ``assay`` gives means of the scores over the tracks that share it; see
            :class:`gexpr.scoring.aggregate.Aggregate`.
        window_rule: where windows lie.
        engine: ``incremental`` computes only what an alternate changes of the local trunk, where the
            model has one; ``plain`` computes all of it. They differ by rounding.
        cache_bytes: memory for tokens along the genome, with windows on a grid; None chooses, 0 keeps none.
        max_allele_length: bases of the longest allele that will be scored; with a ``mask`` that leaves most
            bins out, only those are predicted that such alleles can need. None promises nothing.
        profile: also give the predictions of so many bins around each variant; None for none.

    Raises:
        ConfigError: an unknown name, a statistic that a track's transform does not allow, a mean over
            tracks that cannot be taken, or a window rule that would move variants out of the model's output.
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
        aggregate: str | None = None,
        window_rule: WindowRule = CENTERED,
        engine: str = "incremental",
        cache_bytes: int | None = None,
        max_allele_length: int | None = None,
        profile: int | None = None,
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
        self.aggregate: Aggregate | None = None
        if aggregate is not None:
            self.aggregate = Aggregate(predictor.tracks, aggregate, self.statistics, predictor.unsquash)
        self.tracks = predictor.tracks if self.aggregate is None else self.aggregate.tracks
        """The columns of the scores."""
        self.window_rule = window_rule
        allele_limit(predictor, window_rule)  # refuses rules that do not fit the model
        if engine not in ENGINES:
            raise ConfigError(f"engine must be one of {', '.join(ENGINES)}, not {engine!r}")
        self.max_allele_length = max_allele_length
        if profile is not None and not 1 <= profile <= predictor.target_length:
            raise ConfigError(
                f"a profile has from 1 to {predictor.target_length} bins, those that the model predicts, "
                f"not {profile}"
            )
        if profile is not None and aggregate is not None:
            raise ConfigError("profiles are those of single tracks; leave out --aggregate")
        self.profile = profile
        self.bins = self._needed_bins()
        """The bins of the target, half-open, that are predicted."""
        self._first_base = predictor.first_base + self.bins[0] * predictor.bin_size
        self._incremental: IncrementalPredictor | None = None
        if engine == "incremental" and IncrementalPredictor.applies(predictor):
            on_grid = window_rule.step(predictor.bin_size) > 0
            genome = windows.genome if on_grid and cache_bytes != 0 else None
            self._incremental = IncrementalPredictor(predictor, genome, cache_bytes)

    @property
    def engine(self) -> str:
        """The engine in use: ``plain`` where the model has no local trunk."""
        return "plain" if self._incremental is None else "incremental"

    def window_start(self, variant: Variant) -> int:
        """Start of the context, without shift, in which a variant is scored; may be negative."""
        return self.window_rule.window_start(
            variant.start, self.predictor.context_length, self.predictor.bin_size
        )

    def _needed_bins(self) -> tuple[int, int]:
        """The bins that can be scored, and those that an insertion can push into them."""
        predictor, distance, longest = self.predictor, self.mask.distance, self.max_allele_length
        if distance is None or longest is None:
            return 0, predictor.target_length
        size = predictor.bin_size
        middle = predictor.context_length // 2 - predictor.first_base
        offset = self.window_rule.largest_offset(size)
        distance = max(distance, (self.profile or 0) // 2 * size + size)
        first = (middle - offset - predictor.flank - distance) // size - 1
        last = (middle + offset + predictor.flank + distance + 2 * longest) // size + 2
        return max(0, first), min(predictor.target_length, last)

    def score(
        self, variants: Sequence[Variant], advance: Callable[[int], None] | None = None
    ) -> dict[str, NDArray[Any]]:
        """Scores of a block of variants.

        Args:
            variants: in any order; those whose status is not ``ok`` are not looked at.
            advance: called with the number of rows finished, as they finish.

        Returns:
            Statistic name -> float32 (len(variants), len(self.tracks)), NaN in rows that are not ``ok``.
            With ``profile``, also :data:`PROFILES`: predictions of both alleles in natural scale, on the
            reference's bins, float32 (len(variants), profile, tracks), NaN where the alternate's window does
            not cover a bin; and int64 (len(variants),) the first base of the first of these bins, -1 in
            rows that are not ``ok``.

        Raises:
            GexprError: memory does not suffice, or a prediction is not finite.
        """
        shape = len(variants), len(self.tracks)
        scores: dict[str, NDArray[Any]] = {
            name: np.full(shape, np.nan, dtype=np.float32) for name in self.statistics
        }
        if self.profile is not None:
            size = len(variants), self.profile, len(self.tracks)
            for name in (REFERENCE, ALTERNATE):
                scores[name] = np.full(size, np.nan, dtype=np.float32)
            scores[PROFILE_START] = self._profile_starts(variants)

        def store(rows: list[list[int]], values: Download, profiles: Download | None) -> None:
            host = values.wait()
            if not np.isfinite(host).all():
                bad = int(np.argmin(np.isfinite(host).all(axis=(0, 2))))
                self._not_finite(variants[rows[bad][0]])
            if self.aggregate is not None:
                host = self.aggregate(host)
            for statistic, per_pair in zip(self.statistics, host, strict=True):
                for targets, row in zip(rows, per_pair, strict=True):
                    scores[statistic][targets] = row
            if profiles is not None:
                for name, per_pair in zip((REFERENCE, ALTERNATE), profiles.wait(), strict=True):
                    for targets, row in zip(rows, per_pair, strict=True):
                        scores[name][targets] = row
            if advance is not None:
                advance(sum(map(len, rows)))

        # Results are fetched one batch late, so that the device has work while the host waits.
        waiting: tuple[list[list[int]], Download, Download | None] | None = None
        for rows, values, profiles in self._results(variants):
            # One transfer for all statistics: (statistics, pairs, tracks).
            result = rows, Download(values), None if profiles is None else Download(profiles)
            if waiting is not None:
                store(*waiting)
            waiting = result
        if waiting is not None:
            store(*waiting)
        return scores

    def _results(
        self, variants: Sequence[Variant]
    ) -> Iterator[tuple[list[list[int]], torch.Tensor, torch.Tensor | None]]:
        """For each batch with alternates in it: rows of every pair, (statistics, pairs, tracks), profiles."""
        for batch in self._predicted(variants):
            left, right = batch.sides
            scored = self._scored_bins([pair.rows for pair in batch.pairs]) & batch.covered
            values = self._statistics(batch.passes, left, right, scored)
            anchors = [pair.rows.anchor for pair in batch.pairs]
            yield batch.rows, values, self._profiles(batch.passes, left, right, batch.covered, anchors)

    def collect_genes(
        self,
        variants: Sequence[Variant],
        collector: GeneCollector,
        advance: Callable[[int], None] | None = None,
    ) -> None:
        """Score a block of variants on the genes that their windows' predictions hold.

        Args:
            variants: as for :meth:`score`.
            collector: gathers the scores; its rows are places in ``variants``.
            advance: as for :meth:`score`.

        Raises:
            GexprError: as for :meth:`score`.
        """
        for batch in self._predicted(variants):
            covered = batch.covered.cpu().numpy()
            found = [
                collector.index.bins(
                    pair.window[0], pair.window[1] + self._first_base, self.predictor.bin_size, each
                )
                for pair, each in zip(batch.pairs, covered, strict=True)
            ]
            total: torch.Tensor | None = None
            for predictions in batch.passes:
                values = gene_scores(
                    predictions,
                    predictions,
                    [each.masks for each in found],
                    self.statistics,
                    pseudocount=self.pseudocount,
                    tracks=self.predictor.tracks,
                    left=[pair.left for pair in batch.pairs],
                    right=[pair.right for pair in batch.pairs],
                )
                total = values if total is None else total + values
            assert total is not None
            host = (total / len(batch.passes)).cpu().numpy()
            if not np.isfinite(host).all():
                bad = int(np.argmin(np.isfinite(host).all(axis=(0, 2))))
                ends = np.cumsum([len(each.genes) for each in found])
                self._not_finite(variants[batch.rows[int(np.searchsorted(ends, bad, "right"))][0]])
            collector.add(batch.rows, found, host)
            if advance is not None:
                advance(sum(map(len, batch.rows)))

    def _not_finite(self, variant: Variant) -> NoReturn:
        raise GexprError(
            f"{variant.chrom}:{variant.pos} {variant.ref}>{variant.alt}: the score is not finite "
            f"(precision {self.predictor.precision}, pseudocount {self.pseudocount:g}): "
            "use --precision fp32 and a pseudocount above 0"
        )

    def _predicted(self, variants: Sequence[Variant]) -> Iterator[_Predicted]:
        """The predictions of each batch with alternates in it."""
        carried_group = -1
        carried: list[torch.Tensor] = []
        if self._incremental is not None:
            self._incremental.forget()
        for batch in prefetch(self._batches(variants)):
            per_pass, covered = self._predict(batch)
            # The last reference of the batch before stands in front of this batch's sequences.
            slots = {carried_group: 0} if carried else {}
            offset = len(slots)
            stacked = per_pass
            if carried:
                stacked = [torch.cat([old, new]) for old, new in zip(carried, per_pass, strict=True)]
            pairs: list[_Pair] = []
            for place, item in enumerate(batch.items):
                contig, start = item.window
                if item.alternate is None:
                    slots[item.group] = own = place + offset
                    carried_group = item.group
                    # A reference's window is that with the flanks for shifts.
                    window = contig, start + self.predictor.flank
                    pairs += [_Pair(own, own, rows, place, window) for rows in item.unchanged]
                else:
                    left = slots[item.group]
                    pairs.append(_Pair(left, place + offset, item.alternate, place, (contig, start)))
            if pairs:
                places = indices([pair.place for pair in pairs], self.predictor.device)
                yield _Predicted(stacked, pairs, covered[places])
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

    def _profiles(
        self,
        stacked: list[torch.Tensor],
        left: torch.Tensor,
        right: torch.Tensor,
        covered: torch.Tensor,
        anchors: list[int],
    ) -> torch.Tensor | None:
        """Predictions around each pair's variant, (2, pairs, profile, tracks); NaN where not covered."""
        if self.profile is None:
            return None
        first = [self._profile_bin(anchor) - self.bins[0] for anchor in anchors]
        chosen = indices(first, left.device)[:, None] + torch.arange(self.profile, device=left.device)
        passes = [
            torch.stack([predictions[side[:, None], chosen] for side in (left, right)])
            for predictions in stacked
        ]
        mean = torch.stack(passes).mean(0).float()
        mean[1].masked_fill_(~covered.gather(1, chosen)[..., None], torch.nan)
        return mean

    def _profile_bin(self, anchor: int) -> int:
        """The first bin of the target in the profile of a variant at this index of the context."""
        assert self.profile is not None
        predictor = self.predictor
        own = (anchor - predictor.first_base) // predictor.bin_size
        return min(max(own - self.profile // 2, 0), predictor.target_length - self.profile)

    def _profile_starts(self, variants: Sequence[Variant]) -> NDArray[np.int64]:
        predictor = self.predictor
        starts = np.full(len(variants), -1, dtype=np.int64)
        for row, variant in enumerate(variants):
            if variant.ok:
                window = self.window_start(variant)
                first = self._profile_bin(variant.start - window)
                starts[row] = window + predictor.first_base + first * predictor.bin_size
        return starts

    def _predict(self, batch: _Batch) -> tuple[list[torch.Tensor], torch.Tensor]:
        """Predictions on reference bins, a tensor for each group of passes, and covered bins."""
        predictor = self.predictor
        device = predictor.device
        middle = predictor.context_length // 2
        alternates = [item.alternate or _Rows([], (0, 0), middle) for item in batch.items]
        lengths = indices([each.edit for each in alternates], device)
        anchors = indices([each.anchor for each in alternates], device)
        count = self.bins[1] - self.bins[0]
        covered = torch.ones((len(batch.items), count), dtype=torch.bool, device=device)
        groups: dict[Hashable, torch.Tensor] = {}
        has_indel = any(old != new for old, new in (each.edit for each in alternates))
        for each, predictions in self._predictions(batch):
            if has_indel:
                edits = realign.Edits(anchors - each.shift, lengths[:, 0], lengths[:, 1])
                geometry = predictor.bin_size, self._first_base
                predictions = realign.to_reference_bins(predictions, edits, *geometry)
                covered &= realign.covered_bins(edits, count, *geometry)
            self.add_pass(groups, each, predictions)
        return self.group_means(groups), covered

    def add_pass(self, groups: dict[Hashable, torch.Tensor], each: Pass, predictions: torch.Tensor) -> None:
        """Add the predictions of a pass to those that are averaged with it before the statistic."""
        group = _GROUPS[self.average](each)
        groups[group] = groups[group] + predictions if group in groups else predictions

    def group_means(self, groups: dict[Hashable, torch.Tensor]) -> list[torch.Tensor]:
        """Means of what :meth:`add_pass` has added up over all passes; all groups have equally many."""
        passes = len(self.predictor.passes) // len(groups)
        return [total / passes if passes > 1 else total for total in groups.values()]

    def _predictions(self, batch: _Batch) -> Iterable[tuple[Pass, torch.Tensor]]:
        """Predictions of every sequence of a batch, pass by pass."""
        if self._incremental is None:
            return self.predictor.predict_passes(batch.codes, bins=self.bins)
        rows: list[int] = []
        reference = -1
        for row, item in enumerate(batch.items):
            reference = row if item.alternate is None else reference
            rows.append(reference)
        changed = [item.changed for item in batch.items]
        windows = [item.window for item in batch.items]
        sequences = Sequences(batch.codes, rows, changed, windows)
        return self._incremental.predict_passes(sequences, self.bins)

    def _scored_bins(self, alternates: Sequence[_Rows]) -> torch.Tensor:
        """(alternates, bins) bool: the bins that ``mask`` asks for."""
        return self.mask_bins([each.anchor for each in alternates], [each.edit[0] for each in alternates])

    def mask_bins(self, firsts: Sequence[int], sizes: Sequence[int]) -> torch.Tensor:
        """The bins that ``mask`` asks for around alleles, (alleles, bins) bool.

        Args:
            firsts: index of each one's first reference base in the context.
            sizes: how many reference bases it has.
        """
        predictor = self.predictor
        device = predictor.device
        bins = torch.arange(self.bins[1] - self.bins[0], device=device)[None, :]
        if self.mask.distance is None:
            return torch.ones((len(firsts), bins.shape[1]), dtype=torch.bool, device=device)
        lengths = indices(list(sizes), device)[:, None]
        anchors = indices(list(firsts), device)[:, None]
        start = anchors - self._first_base
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
        predictor = self.predictor
        length, flank = predictor.window_length, predictor.flank
        for group, (window, alleles) in enumerate(self._distinct(variants).items()):
            start = window[1] - flank
            first = variants[next(iter(alleles.values()))[0]]
            reference = self.windows.reference(first, length, start)
            unchanged: list[_Rows] = []
            changed: list[_Item] = []
            for (position, ref, alt), rows in alleles.items():
                codes = self.windows.alternate(variants[rows[0]], length, start)
                each = _Rows(rows, (len(ref), len(alt)), position - window[1])
                differing = np.flatnonzero(codes != reference)
                if len(ref) == len(alt) and not len(differing):
                    unchanged.append(each)
                else:
                    # An indel of a repeat may leave the window as it was.
                    ends = (int(differing[0]), int(differing[-1]) + 1) if len(differing) else (0, 0)
                    changed.append(_Item(group, codes, each, [], ends, window))
            yield _Item(group, reference, None, unchanged, (0, 0), (window[0], start))
            yield from changed

    def _distinct(
        self, variants: Sequence[Variant]
    ) -> dict[tuple[str, int], dict[tuple[int, str, str], list[int]]]:
        """Window (contig, start of the context) -> (position, normalized REF, ALT) -> rows."""
        groups: dict[tuple[str, int], dict[tuple[int, str, str], list[int]]] = {}
        for row, variant in enumerate(variants):
            if variant.ok:
                longest = max(len(variant.norm_ref), len(variant.norm_alt))
                if self.max_allele_length is not None and longest > self.max_allele_length:
                    raise ValueError(f"an allele of {longest} bases; {self.max_allele_length} were promised")
                start = self.window_start(variant)
                alleles = groups.setdefault((variant.contig, start), {})
                alleles.setdefault((variant.start, variant.norm_ref, variant.norm_alt), []).append(row)
        return groups

    def sequence_count(self, variants: Sequence[Variant]) -> int:
        """Sequences that :meth:`score` predicts for a block: distinct references and alternates."""
        return sum(1 + len(alleles) for alleles in self._distinct(variants).values())


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
