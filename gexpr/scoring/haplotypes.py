"""Variants on the haplotypes of samples: single, marginal and joint effects side by side.

For an allele on a haplotype there are four sequences of its window: the reference R, the reference with the
allele A, the haplotype H with all alleles it carries there, and H0, the haplotype without this allele. The
single effect compares R and A, the marginal one H0 and H, the joint one R and H, all of them on the
reference's bins. Where the haplotype carries nothing else, H0 is R and H is A, and the three are equal.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from gexpr.genome.codes import Codes, encode
from gexpr.results import Variant
from gexpr.scoring.engine import VariantScorer, Windows
from gexpr.scoring.predictor import Predictor
from gexpr.scoring.prefetch import prefetch
from gexpr.variants.genotypes import Background, Edit, Genotypes, reference_end

KIND_MEANINGS = {
    "": "the reference without and with this allele",
    "_marginal": "the haplotype without and with this allele",
    "_joint": "the reference and the haplotype with all its alleles in the window",
}
"""What stands behind a statistic's name -> the r and a that are compared: single, marginal, joint effect."""
COLUMNS = {"sample": "text", "haplotype": "int", "n_variants": "int"}
"""Extra columns of phased scores, and their kinds."""


def kind_names(statistics: Sequence[str]) -> tuple[str, ...]:
    """The tables of scores: every statistic of the single effect, then of the marginal and the joint one."""
    return tuple(name + suffix for suffix in KIND_MEANINGS for name in statistics)


def edited_codes(reference: Codes, edits: Sequence[Edit], start: int, length: int) -> Codes:
    """A sequence that begins at ``start`` and has all edits.

    Args:
        reference: codes from ``start`` on, at least to :func:`reference_end`.
        edits: sorted, without overlaps, none before ``start``.
        start: where the sequence begins, on the reference.
        length: bases; the right end reaches further for deletions and is cut for insertions.

    Returns:
        uint8 codes (length,).
    """
    pieces, here, size = [], 0, 0
    for edit in edits:
        if size + edit.start - start - here >= length:
            break
        pieces += [reference[here : edit.start - start], encode(edit.alt)]
        size += len(pieces[-2]) + len(pieces[-1])
        here = edit.end - start
    pieces.append(reference[here : here + max(length - size, 0)])
    return np.concatenate(pieces)[:length]


class BaseMap(NamedTuple):
    """Which bases of an edited sequence the reference's bases are; both count from the window's start.

    Attributes:
        segments: (first, behind the last, displacement): reference base i is base i + displacement.
        runs: (reference base, first base, last base): a base that stands for itself and for what is
            inserted behind it. Bases in neither are deleted.
    """

    segments: tuple[tuple[int, int, int], ...]
    runs: tuple[tuple[int, int, int], ...]

    @property
    def is_identity(self) -> bool:
        """Whether every base is where it was."""
        return len(self.segments) == 1 and self.segments[0][::2] == (0, 0) and not self.runs


def base_map(edits: Sequence[Edit], start: int, length: int) -> BaseMap:
    """The map of a sequence made by :func:`edited_codes`, for ``length`` bases of the reference."""
    segments: list[tuple[int, int, int]] = []
    runs: list[tuple[int, int, int]] = []
    here = shift = 0
    for edit in edits:
        replaced, new = len(edit.ref), len(edit.alt)
        if replaced == new:
            continue
        matched = edit.start - start + min(replaced, new)
        if new > replaced:
            anchor, last = matched - 1, matched - 1 + shift + new - replaced
            if runs and runs[-1][0] == anchor:
                runs[-1] = (*runs[-1][:2], last)
            elif here <= anchor:
                segments.append((here, anchor, shift))
                runs.append((anchor, anchor + shift, last))
            else:
                # The base before the insertion is itself deleted.
                runs.append((anchor, anchor + shift + 1, last))
        else:
            segments.append((here, matched, shift))
        here = edit.end - start
        shift += new - replaced
    segments.append((here, length, shift))
    return BaseMap(tuple(each for each in segments if each[0] < each[1]), tuple(runs))


class Realignment(NamedTuple):
    """How predictions on an edited sequence are brought onto the reference's bins.

    Attributes:
        sources: (k, bins) bins of the edited sequence, of which a reference bin has bases.
        weights: (k, bins) the share of such a bin; 0 where there are fewer than k.
        runs: (reference bin, first bin, last bin) whose maximum is one base of the reference bin.
        covered: (bins,) whether the edited sequence's output has all that a reference bin needs.
    """

    sources: NDArray[np.int64]
    weights: NDArray[np.float64]
    runs: tuple[tuple[int, int, int], ...]
    covered: NDArray[np.bool_]


def realignment(bases: BaseMap, bins: int, bin_size: int, first: int) -> Realignment:
    """The same convention as :mod:`gexpr.scoring.realign`, for any number of edits.

    Args:
        bases: where the reference's bases are.
        bins: number of bins.
        bin_size: bases a bin.
        first: the first base of the first bin, counted from the window's start.
    """
    entries: list[NDArray[np.int64]] = []
    end = first + bins * bin_size
    for low, high, shift in bases.segments:
        low, high = max(low, first), min(high, end)
        if low >= high:
            continue
        places = np.arange((low - first) // bin_size, (high - 1 - first) // bin_size + 1)
        begins = np.maximum(low, first + places * bin_size)
        sizes = np.minimum(high, first + (places + 1) * bin_size) - begins
        source = (begins + shift - first) // bin_size
        inside = np.minimum(sizes, (source + 1) * bin_size - (begins + shift - first))
        entries.append(np.stack([places, source, inside], axis=1))
        rest = np.stack([places, source + 1, sizes - inside], axis=1)
        entries.append(rest[rest[:, 2] > 0])
    table = np.concatenate(entries) if entries else np.zeros((0, 3), dtype=np.int64)
    table = table[np.argsort(table[:, 0], kind="stable")]
    rank = np.arange(len(table)) - np.searchsorted(table[:, 0], table[:, 0])
    depth = int(rank.max()) + 1 if len(table) else 1
    covered = np.ones(bins, dtype=bool)
    outside = (table[:, 1] < 0) | (table[:, 1] >= bins)
    covered[table[outside, 0]] = False
    sources = np.zeros((depth, bins), dtype=np.int64)
    weights = np.zeros((depth, bins))
    sources[rank, table[:, 0]] = table[:, 1].clip(0, bins - 1)
    weights[rank, table[:, 0]] = table[:, 2] / bin_size
    runs = []
    for anchor, low, high in bases.runs:
        place = (anchor - first) // bin_size
        if 0 <= place < bins:
            low, high = (low - first) // bin_size, (high - first) // bin_size
            if low < 0 or high >= bins:
                covered[place] = False
            else:
                runs.append((place, low, high))
    return Realignment(sources, weights, tuple(runs), covered)


def realigned(predictions: torch.Tensor, how: Realignment, bin_size: int) -> torch.Tensor:
    """Predictions (bins, tracks) on the reference's bins; uncovered bins hold no meaning."""
    device, dtype = predictions.device, predictions.dtype
    result = torch.zeros_like(predictions)
    for source, weight in zip(how.sources, how.weights, strict=True):
        shares = torch.from_numpy(weight).to(device, dtype).unsqueeze(-1)
        result += predictions[torch.from_numpy(source).to(device)] * shares
    for place, low, high in how.runs:
        result[place] += predictions[low : high + 1].amax(dim=0) / bin_size
    return result


class _Key(NamedTuple):
    """A sequence: where its window's context begins, and what is changed in it."""

    contig: str
    start: int
    edits: tuple[Edit, ...]


class _Job(NamedTuple):
    """Rows that compare the same four sequences: R, A, H0, H."""

    keys: tuple[_Key, _Key, _Key, _Key]
    focal: Edit
    rows: list[int]


class _Held(NamedTuple):
    """Predictions of a sequence on the reference's bins, (bins, tracks) for each group of passes."""

    passes: list[torch.Tensor]
    covered: torch.Tensor


class HaplotypeScorer(VariantScorer):
    """Scores alleles on the haplotypes of samples, with the plain engine.

    Rows come for each allele sample by sample, and for each sample haplotype 1 and 2: the row of allele a,
    sample s (from 0, of S) and haplotype h (0 or 1) is (a * S + s) * 2 + h. Equal sequences of a block are
    predicted once.

    Args:
        predictor: the model.
        windows: where sequences come from.
        genotypes: of the samples.
        settings: see :class:`gexpr.scoring.engine.VariantScorer`; the engine is plain, all bins are predicted
            and there are no profiles.
    """

    def __init__(self, predictor: Predictor, windows: Windows, genotypes: Genotypes, **settings: Any) -> None:
        super().__init__(predictor, windows, engine="plain", **settings)
        self.genotypes = genotypes
        self._known: dict[int, Background] = {}

    def place(self, row: int) -> tuple[int, int, int]:
        """Allele, sample and haplotype (0 or 1) of a row."""
        pair, haplotype = divmod(row, 2)
        return *divmod(pair, len(self.genotypes.samples)), haplotype

    @property
    def width(self) -> int:
        """Rows of an allele."""
        return 2 * len(self.genotypes.samples)

    def rows(self, variant: Variant, start: int, end: int) -> list[Variant]:
        """The rows of an allele that lie from ``start`` to ``end`` (half-open), each with its status."""
        first = variant.row * self.width
        rows = range(max(first, start), min(first + self.width, end))
        found = [variant._replace(row=row) for row in rows]
        if variant.ok:
            found = [each._replace(status=self.background(each).status) for each in found]
        return found

    def background(self, variant: Variant) -> Background:
        """The haplotype around the allele of a row; ``variant`` has a start and normalized alleles."""
        known = self._known.get(variant.row)
        if known is None:
            if len(self._known) > _MOST_KNOWN:
                self._known.clear()
            allele, sample, haplotype = self.place(variant.row)
            start = self._start(variant) - self.predictor.flank
            known = self._known[variant.row] = self.genotypes.background(
                variant.contig,
                _edit(variant),
                allele,
                sample,
                haplotype,
                start,
                self.predictor.window_length,
            )
        return known

    def columns(self, variants: Sequence[Variant]) -> dict[str, list[str | int]]:
        """Values of the extra :data:`COLUMNS` of rows; ``n_variants`` is 0 in rows that are not ``ok``."""
        places = [self.place(variant.row) for variant in variants]
        return {
            "sample": [self.genotypes.samples[sample] for _, sample, _ in places],
            "haplotype": [haplotype + 1 for *_, haplotype in places],
            "n_variants": [len(self.background(each).others) if each.ok else 0 for each in variants],
        }

    def _start(self, variant: Variant) -> int:
        """Where the context of a variant's window begins."""
        predictor = self.predictor
        return self.window_rule.window_start(variant.start, predictor.context_length, predictor.bin_size)

    def score(
        self, variants: Sequence[Variant], advance: Callable[[int], None] | None = None
    ) -> dict[str, NDArray[Any]]:
        """Scores of a block of rows.

        Args:
            variants: as :meth:`rows` makes them.
            advance: called with the number of rows finished, as they finish.

        Returns:
            Names of :func:`kind_names` -> float32 (len(variants), len(self.tracks)), NaN in rows that are
            not ``ok``.

        Raises:
            GexprError: memory does not suffice, or a prediction is not finite.
        """
        names = kind_names(self.statistics)
        shape = len(variants), len(self.tracks)
        scores: dict[str, NDArray[Any]] = {name: np.full(shape, np.nan, dtype=np.float32) for name in names}
        for jobs, effects in self._effects(variants):
            host = effects.cpu().numpy()
            if not np.isfinite(host).all():
                bad = int(np.argmin(np.isfinite(host).all(axis=(0, 1, 3))))
                self._not_finite(variants[jobs[bad].rows[0]])
            for suffix, values in zip(KIND_MEANINGS, host, strict=True):
                if self.aggregate is not None:
                    values = self.aggregate(values)
                for name, per_job in zip(self.statistics, values, strict=True):
                    for job, row in zip(jobs, per_job, strict=True):
                        scores[name + suffix][job.rows] = row
            if advance is not None:
                advance(sum(len(job.rows) for job in jobs))
        return scores

    def _jobs(self, variants: Sequence[Variant]) -> list[_Job]:
        """What is compared, window by window, each once."""
        windows: dict[tuple[str, int], dict[tuple[Edit, tuple[Edit, ...]], _Job]] = {}
        for row, variant in enumerate(variants):
            if not variant.ok:
                continue
            contig, start, focal = variant.contig, self._start(variant), _edit(variant)
            others = self.background(variant).others
            jobs = windows.setdefault((contig, start), {})
            job = jobs.get((focal, others))
            if job is None:
                every = tuple(sorted((focal, *others), key=lambda each: (each.start, len(each.ref))))
                four = (), (focal,), others, every
                keys = (
                    _Key(contig, start, four[0]),
                    _Key(contig, start, four[1]),
                    _Key(contig, start, four[2]),
                    _Key(contig, start, four[3]),
                )
                job = jobs[focal, others] = _Job(keys, focal, [])
            job.rows.append(row)
        return [job for jobs in windows.values() for job in jobs.values()]

    def sequence_count(self, variants: Sequence[Variant]) -> int:
        """Sequences that :meth:`score` predicts for a block."""
        return len({key for job in self._jobs(variants) for key in job.keys})

    def _effects(self, variants: Sequence[Variant]) -> Iterator[tuple[list[_Job], torch.Tensor]]:
        """Jobs, and their (kinds, statistics, jobs, tracks)."""
        jobs = self._jobs(variants)
        uses = Counter(key for job in jobs for key in dict.fromkeys(job.keys))
        held: dict[_Key, _Held] = {}
        size = self.predictor.batch_size
        done = 0
        for keys, codes in prefetch(self._sequences(list(uses))):
            held.update(zip(keys, self._predict_sequences(keys, codes), strict=True))
            ready = done
            while ready < len(jobs) and all(key in held for key in jobs[ready].keys):
                ready += 1
            for low in range(done, ready, size):
                some = jobs[low : min(low + size, ready)]
                yield some, self._compare(some, held)
                for job in some:
                    for key in dict.fromkeys(job.keys):
                        uses[key] -= 1
                        if not uses[key]:
                            del held[key]
            done = ready

    def _sequences(self, keys: Sequence[_Key]) -> Iterator[tuple[list[_Key], torch.Tensor]]:
        """Batches of sequences."""
        length, flank = self.predictor.window_length, self.predictor.flank
        for low in range(0, len(keys), self.predictor.batch_size):
            some = list(keys[low : low + self.predictor.batch_size])
            codes = []
            for contig, context, edits in some:
                start = context - flank
                end = max(start + length, reference_end(edits, start, length))
                codes.append(edited_codes(self.windows.genome(contig, start, end), edits, start, length))
            yield some, torch.from_numpy(np.stack(codes))

    def _predict_sequences(self, keys: Sequence[_Key], codes: torch.Tensor) -> list[_Held]:
        """Predictions of a batch on reference bins, for each sequence a tensor a group of passes."""
        predictor = self.predictor
        bins, flank = self.bins[1] - self.bins[0], predictor.flank
        maps = [
            base_map(edits, start - flank, 2 * predictor.window_length + _deleted(edits))
            for _, start, edits in keys
        ]
        groups: list[dict[Hashable, torch.Tensor]] = [{} for _ in keys]
        covered = np.ones((len(keys), bins), dtype=bool)
        for each, predictions in predictor.predict_passes(codes, bins=self.bins):
            first = self._first_base + flank + each.shift
            for place, bases in enumerate(maps):
                own = predictions[place]
                if not bases.is_identity:
                    how = realignment(bases, bins, predictor.bin_size, first)
                    covered[place] &= how.covered
                    own = realigned(own, how, predictor.bin_size)
                self.add_pass(groups[place], each, own)
        masks = torch.from_numpy(covered).to(predictor.device)
        return [_Held(self.group_means(own), mask) for own, mask in zip(groups, masks, strict=True)]

    def _compare(self, jobs: Sequence[_Job], held: dict[_Key, _Held]) -> torch.Tensor:
        """(kinds, statistics, jobs, tracks) of jobs whose sequences have been predicted."""
        anchors = [job.focal.start - job.keys[0].start for job in jobs]
        masked = self.mask_bins(anchors, [len(job.focal.ref) for job in jobs])
        sides = torch.arange(len(jobs), device=masked.device)
        kinds = []
        # R and A, H0 and H, R and H.
        for left, right in ((0, 1), (2, 3), (0, 3)):
            old = [held[job.keys[left]] for job in jobs]
            new = [held[job.keys[right]] for job in jobs]
            covered = torch.stack([a.covered & b.covered for a, b in zip(old, new, strict=True)])
            stacked = [torch.stack(each) for each in zip(*(one.passes for one in (*old, *new)), strict=True)]
            kinds.append(self._statistics(stacked, sides, sides + len(jobs), masked & covered))
        return torch.stack(kinds)


_MOST_KNOWN = 1 << 12
"""Haplotypes around alleles that are remembered: as many as a block has rows."""


def _edit(variant: Variant) -> Edit:
    return Edit(variant.start, variant.norm_ref, variant.norm_alt)


def _deleted(edits: Sequence[Edit]) -> int:
    return sum(len(each.ref) for each in edits)
