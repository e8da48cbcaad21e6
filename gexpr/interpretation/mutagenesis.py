"""Saturation mutagenesis: every change of a region, scored in the region's own window.

The changes of a region are a grid of positions and *slots*. The slots of a position are, in this order, the
deletion that begins there, the insertions of A, C, G and T before it, and A, C, G and T in its place; the
first two kinds only where they are asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gexpr.errors import ConfigError
from gexpr.genome.codes import UNKNOWN, Codes, decode
from gexpr.genome.windows import WindowRule, variant_window_start
from gexpr.results import Region, Variant
from gexpr.scoring.engine import FastaWindows, VariantScorer, allele_limit
from gexpr.scoring.predictor import Predictor
from gexpr.variants.normalize import left_align, trim
from gexpr.writers.regions import DELETION, INSERTION, oriented

LETTERS = "ACGT"


class Changes(NamedTuple):
    """Which changes are made besides all substitutions.

    ``deletions`` is the length of the deletion that begins at every position, 0 for none; ``insertions``
    says whether each letter is inserted before every position.
    """

    deletions: int = 0
    insertions: bool = False

    @property
    def slots(self) -> int:
        """Slots of a position; the last four are the letters in its place."""
        return int(self.deletions > 0) + 4 * self.insertions + 4

    @property
    def longest(self) -> int:
        """Bases of the longest allele."""
        return max(1, self.deletions)

    def check(self) -> None:
        """Raise ConfigError for a length of deletions below 0."""
        if self.deletions < 0:
            raise ConfigError(f"deletions must have 1 base or more, not {self.deletions}")


def by_kind(values: NDArray[Any], changes: Changes, strand: str) -> dict[str, NDArray[Any]]:
    """Scores of a region's changes by what follows a statistic's name, on the region's own strand.

    Args:
        values: (length, slots, tracks), as :meth:`RegionScorer.score_region` gives them for a whole region.
        changes: what the slots are.
        strand: of the region.

    Returns:
        ``""``: (length, 4, tracks), substitutions; and where they were made, deletions (length, tracks) and
        insertions (length, 4, tracks).
    """
    found = {"": oriented(values[:, -4:], strand)}
    slot = 0
    if changes.deletions:
        found[DELETION] = oriented(values[:, 0], strand, changes.deletions - 1)
        slot = 1
    if changes.insertions:
        found[INSERTION] = oriented(values[:, slot : slot + 4], strand, -1)
    return found


class Record(NamedTuple):
    """The changes of one kind at one position, as a record of a VCF: one slot for each of ``alts``."""

    position: int
    pos: int
    ref: str
    alts: tuple[str, ...]
    slots: tuple[int, ...]


def records(region: Region, codes: Codes, changes: Changes, first: int, last: int) -> Iterator[Record]:
    """The changes of some positions of a region, sorted by POS as a VCF has them.

    Changes that involve an unknown base are left out, and so are deletions that reach past the region.

    Args:
        region: with 0-based ``start``.
        codes: of the region and of one base on each side, uint8 (length + 2,).
        changes: what is made besides substitutions.
        first, last: the positions, half-open, counted from the region's start.
    """
    text = decode(codes)
    length = region.end - region.start
    for position in range(first, last):
        at = position + 1
        pos = region.start + at
        slot = 0
        if changes.deletions:
            gone = text[at : at + changes.deletions]
            if position + changes.deletions <= length and "N" not in gone:
                yield _anchored(text, at, pos, gone, ("",), position, (slot,))
            slot += 1
        if changes.insertions:
            if text[at] != "N":
                yield _anchored(text, at, pos, "", tuple(LETTERS), position, tuple(range(slot, slot + 4)))
            slot += 4
        if text[at] != "N":
            others = [number for number, letter in enumerate(LETTERS) if letter != text[at]]
            alts = tuple(LETTERS[number] for number in others)
            yield Record(position, pos, text[at], alts, tuple(slot + number for number in others))


def _anchored(
    text: str, at: int, pos: int, ref: str, alts: tuple[str, ...], position: int, slots: tuple[int, ...]
) -> Record:
    """A record of an insertion or deletion with the base before it, or after it at a contig's start."""
    if pos == 1:
        anchor = text[at + len(ref)]
        return Record(position, 1, ref + anchor, tuple(alt + anchor for alt in alts), slots)
    anchor = text[at - 1]
    return Record(position, pos - 1, anchor + ref, tuple(anchor + alt for alt in alts), slots)


def variants_of(region: Region, found: Sequence[Record], fetch: Callable[[int, int], str]) -> list[Variant]:
    """The alleles of records, trimmed and left-aligned as those of a VCF are, one after the other.

    Args:
        region: where they lie, with ``chrom`` spelt as the genome spells it.
        found: the records.
        fetch: ``fetch(start, end)`` gives the bases of the contig, upper case.
    """
    variants: list[Variant] = []
    for record in found:
        for alt in record.alts:
            start, norm_ref, norm_alt = left_align(*trim(record.pos - 1, record.ref, alt), fetch)
            variants.append(_variant(region, record, alt, len(variants), start, norm_ref, norm_alt))
    return variants


def written_variants(region: Region, found: Sequence[Record], first_row: int) -> list[Variant]:
    """The alleles of records as rows of an output, numbered from ``first_row``."""
    pairs = [(record, alt) for record in found for alt in record.alts]
    return [_variant(region, record, alt, first_row + row) for row, (record, alt) in enumerate(pairs)]


def _variant(
    region: Region,
    record: Record,
    alt: str,
    row: int,
    start: int = -1,
    norm_ref: str = "",
    norm_alt: str = "",
) -> Variant:
    return Variant(
        *(row, 0, region.chrom, record.pos, ".", record.ref, alt, "ok"),
        *(region.chrom, start, norm_ref, norm_alt),
    )


class _RegionWindows(FastaWindows):
    """Windows of a FASTA that keep the last reference: a region's alternates differ from it by one base."""

    _key: tuple[str, int, int] | None = None
    _codes: Codes

    def reference(self, variant: Variant, length: int, start: int | None = None) -> Codes:
        """The reference window, uint8 (length,)."""
        if start is None:
            return super().reference(variant, length, start)
        if self._key != (variant.contig, start, length):
            self._codes = super().reference(variant, length, start)
            self._key = variant.contig, start, length
        return self._codes

    def alternate(self, variant: Variant, length: int, start: int | None = None) -> Codes:
        """The window with the alternate allele, uint8 (length,)."""
        if start is None or len(variant.norm_ref) != 1 or len(variant.norm_alt) != 1:
            return super().alternate(variant, length, start)
        codes = self.reference(variant, length, start).copy()
        codes[variant.start - start] = LETTERS.index(variant.norm_alt)
        return codes


def region_window_start(region: Region, context_length: int) -> int:
    """Start of a region's window: base ``(start + end) // 2`` lies at index ``context_length // 2``."""
    return variant_window_start((region.start + region.end) // 2, context_length)


def check_length(region: Region, predictor: Predictor) -> None:
    """Raise ConfigError when a region is so long that its ends are not within what the model predicts."""
    half = predictor.target_length * predictor.bin_size // 2
    own = predictor.bin_size if predictor.target_length > 1 else 0
    most = 2 * ((half - own - predictor.flank - 1) // predictor.bin_size) * predictor.bin_size
    if most < 1:
        bins = (
            f"{predictor.target_length} bin{'s' * (predictor.target_length > 1)} of {predictor.bin_size:,} bp"
        )
        raise ConfigError(
            f"this model predicts {bins} of a window, too few for regions; changes of whole sequences are "
            "scored by gexpr score-sequences"
        )
    if region.end - region.start > most:
        raise ConfigError(
            f"{region.chrom}:{region.start}-{region.end} has {region.end - region.start:,} bp, and one "
            f"window of this model holds regions of up to {most:,} bp: cut it into shorter ones, or take its "
            "middle with --length"
        )


class RegionScorer(VariantScorer):
    """Scores all changes of a region in one window, in the middle of which the region lies.

    A mask counts from the region, not from each change, so that all changes are scored on the same bins.

    Args:
        predictor: the model with its strands and shifts.
        genome: where sequences come from.
        longest_region: bases of the longest region that will be scored.
        changes: what is made besides substitutions.
        scoring: as for :class:`~gexpr.scoring.engine.VariantScorer`: statistics, mask and so on.

    Raises:
        ConfigError: as for a VariantScorer, or deletions that are too long for the model.
    """

    def __init__(
        self, predictor: Predictor, genome: Any, longest_region: int, changes: Changes, **scoring: Any
    ) -> None:
        changes.check()
        self.changes = changes
        bin_size = predictor.bin_size
        rule = (
            WindowRule(max(1, -(-longest_region // 2 // bin_size)) * bin_size) if longest_region > 1 else None
        )
        limit = allele_limit(predictor, rule or WindowRule())
        if changes.deletions > limit:
            raise ConfigError(
                f"deletions of {changes.deletions:,} bp are too long for this model and these regions: "
                f"at most {limit:,} bp"
            )
        super().__init__(
            predictor,
            _RegionWindows(genome),
            window_rule=rule or WindowRule(),
            # Tokens along the genome would serve windows that overlap; each region has one.
            cache_bytes=0,
            max_allele_length=changes.longest,
            **scoring,
        )
        self._genome = genome
        self._region = Region("", 0, 1)

    def window_start(self, variant: Variant) -> int:
        """Start of the window of the region that is being scored."""
        return region_window_start(self._region, self.predictor.context_length)

    def mask_bins(self, firsts: Sequence[int], sizes: Sequence[int]) -> Any:
        """The bins that the mask asks for around the region, the same for all of its changes."""
        region = self._region
        first = region.start - region_window_start(region, self.predictor.context_length)
        return super().mask_bins([first] * len(firsts), [region.end - region.start] * len(firsts))

    def codes(self, region: Region) -> Codes:
        """Codes of a region and of one base on each side, uint8 (length + 2,)."""
        found: Codes = self._genome.codes(region.chrom, region.start - 1, region.end + 1)
        return found

    def _leftmost(self, region: Region) -> int:
        """How far left insertions and deletions in a repeat are moved: not out of the window's predictions.

        Where a repeat begins further left, any place in it stands for the same change; behind one that is
        left of the bins that are predicted, these could not be brought to the reference's.
        """
        start = region_window_start(region, self.predictor.context_length)
        # An insertion's place among the reference's bins is the base before it.
        return start + self._first_base + self.predictor.flank + 1

    def region_variants(
        self, region: Region, first: int, last: int
    ) -> tuple[list[Variant], list[tuple[int, int]]]:
        """The changes of some positions, and the position and slot of each.

        Letters that are the reference's are among them: their scores are those of no change.
        """
        codes = self.codes(region)
        found = list(records(region, codes, self.changes, first, last))
        floor = self._leftmost(region)

        def fetch(start: int, end: int) -> str:
            inside = max(start, floor)
            text: str = self._genome.fetch(region.chrom, inside, end) if inside < end else ""
            return "N" * (end - start - len(text)) + text

        variants = variants_of(region, found, fetch)
        places = [(record.position, slot) for record in found for slot in record.slots]
        for position in range(first, last):
            code = int(codes[position + 1])
            if code != UNKNOWN:
                letter, start = LETTERS[code], region.start + position
                same = Record(position, start + 1, letter, (letter,), ())
                variants.append(_variant(region, same, letter, len(variants), start, letter, letter))
                places.append((position, self.changes.slots - 4 + code))
        return variants, places

    def score_region(
        self, region: Region, first: int, last: int, advance: Callable[[int], None] | None = None
    ) -> dict[str, NDArray[np.float32]]:
        """Scores of the changes of some positions of a region.

        Args:
            region: with ``chrom`` spelt as the genome spells it.
            first, last: the positions, half-open, counted from the region's start.
            advance: called with the number of positions finished, as they finish.

        Returns:
            Statistic -> float32 (last - first, slots, tracks); NaN where no change could be made.
        """
        self._region = region
        variants, places = self.region_variants(region, first, last)
        finished = told = 0

        def count(rows: int) -> None:
            nonlocal finished, told
            finished += rows
            positions = finished * (last - first) // max(1, len(variants))
            if advance is not None:
                advance(positions - told)
            told = positions

        found = self.score(variants, count)
        if advance is not None and told < last - first:
            advance(last - first - told)
        shape = last - first, self.changes.slots, len(self.tracks)
        result = {}
        rows = np.array([position - first for position, _ in places], dtype=np.int64)
        slots = np.array([slot for _, slot in places], dtype=np.int64)
        for name, values in found.items():
            result[name] = np.full(shape, np.nan, dtype=np.float32)
            result[name][rows, slots] = values
        return result

    def region_sequences(self, region: Region, first: int, last: int) -> int:
        """Sequences that :meth:`score_region` predicts."""
        self._region = region
        variants, _ = self.region_variants(region, first, last)
        return self.sequence_count([each for each in variants if each.norm_ref != each.norm_alt])
