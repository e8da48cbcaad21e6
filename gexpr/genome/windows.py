"""Interval arithmetic of model windows; pure functions on 0-based half-open coordinates."""

from __future__ import annotations

from typing import NamedTuple


class Tile(NamedTuple):
    """One window that predicts a piece of a region.

    The model's bins ``first_bin`` to ``last_bin`` (half-open, counted over its ``target_length``
    output bins) are the piece; they cover the genome from ``start`` to ``end``.
    """

    window_start: int
    first_bin: int
    last_bin: int
    start: int
    end: int


def variant_window_start(start: int, context_length: int) -> int:
    """Start of the window in which position ``start`` has index ``context_length // 2``; may be negative."""
    return start - context_length // 2


class WindowRule(NamedTuple):
    """How far from the middle of its window a variant may lie, so that variants can share windows.

    ``max_offset`` 0 centers every variant exactly (:func:`variant_window_start`). Any other number N
    puts windows on a fixed grid of the contig, so that the variant has an index within N of the
    middle; ``bin`` stands for half a bin: windows then start at multiples of the bin size. A
    window depends on the variant's position alone, never on other variants.
    """

    max_offset: int | str = 0

    def __str__(self) -> str:
        return str(self.max_offset)

    def step(self, bin_size: int) -> int:
        """Distance of the grid's window starts: a whole number of bins, at most twice the offset; 0 without.

        Raises:
            ValueError: the offset is less than half a bin.
        """
        if self.max_offset == 0:
            return 0
        if self.max_offset == "bin":
            return bin_size
        assert isinstance(self.max_offset, int)
        if 2 * self.max_offset < bin_size:
            raise ValueError(
                f"a maximum offset of {self.max_offset} bp is less than half a bin ({bin_size} bp)"
            )
        return 2 * self.max_offset // bin_size * bin_size

    def window_start(self, start: int, context_length: int, bin_size: int) -> int:
        """Start of the window of a variant whose first reference base is ``start``; may be negative."""
        centered = variant_window_start(start, context_length)
        step = self.step(bin_size)
        return centered if step == 0 else (centered + step // 2) // step * step

    def largest_offset(self, bin_size: int) -> int:
        """The largest distance of a variant from index ``context_length // 2``, in bp."""
        return -(-self.step(bin_size) // 2)

    def describe(self, bin_size: int) -> str:
        """The rule in words, for the attributes of an output."""
        step = self.step(bin_size)
        if step == 0:
            return "the first base of the normalized REF allele lies at index context_length // 2"
        return (
            f"windows start at multiples of {step} bp; the first base of the normalized REF allele lies "
            f"within {self.largest_offset(bin_size)} bp of index context_length // 2"
        )


CENTERED = WindowRule(0)


def region_bins(start: int, end: int, bin_size: int) -> tuple[int, int]:
    """The bins that cover a region: (genome position of the first bin, number of bins).

    The number is ``ceil((end - start) / bin_size)``. When the length is a multiple of ``bin_size``
    the first bin starts at ``start``; otherwise the bins are centered on the region, an odd base
    of excess lying on the right.
    """
    length = end - start
    if length <= 0 or bin_size <= 0:
        raise ValueError(f"need start < end and bin_size > 0, got {start}-{end} and {bin_size}")
    bins = -(-length // bin_size)
    return start - (bins * bin_size - length) // 2, bins


class Tiling(NamedTuple):
    """How windows lie over the bins of a region.

    Args:
        context_length: bases that the model reads.
        core_length: bases that the model predicts, ``target_length * bin_size``, in the middle.
        bin_size: bases per output bin.
        most_bins: bins that a window contributes to a region that is too long for one window, at most; 0
            stands for all that the model predicts.
    """

    context_length: int
    core_length: int
    bin_size: int
    most_bins: int = 0

    def windows(self, bins: int) -> int:
        """Windows that so many consecutive bins need."""
        target_length = self.core_length // self.bin_size
        if bins <= target_length:
            return 1
        return -(-bins // (self.most_bins or target_length))

    def tiles(self, origin: int, bins: int, low: int = 0, high: int | None = None) -> list[Tile]:
        """Windows that together predict consecutive bins once, bin after bin.

        The bins are split into the fewest pieces of at most ``most_bins`` (all of them into one piece
        where a single window can predict them), of equal length to within one bin. Each piece lies in the
        center of its window's core (one bin left of it where the difference is odd), so that every bin
        comes from the window in whose middle it lies best.

        Args:
            origin: genome position of the first bin.
            bins: how many there are.
            low, high: which of the windows, half-open; all of them by default.

        Returns:
            Tiles in genome order; ``window_start`` may be negative, and windows may reach past the contig's
            end.

        Raises:
            ValueError: the core does not lie in the middle of the context, on whole bins.
        """
        core, size = self.core_length, self.bin_size
        crop, odd = divmod(self.context_length - core, 2)
        if core <= 0 or core % size or odd or crop < 0 or crop % size:
            raise ValueError(
                f"a core of {core} bases in bins of {size} is not centered on whole bins "
                f"of a context of {self.context_length}"
            )
        target_length = core // size
        pieces = self.windows(bins)
        tiles = []
        for piece in range(low, pieces if high is None else high):
            first, last = piece * bins // pieces, (piece + 1) * bins // pieces
            first_bin = (target_length - (last - first)) // 2
            piece_start = origin + first * self.bin_size
            tiles.append(
                Tile(
                    window_start=piece_start - first_bin * self.bin_size - crop,
                    first_bin=first_bin,
                    last_bin=first_bin + last - first,
                    start=piece_start,
                    end=origin + last * self.bin_size,
                )
            )
        return tiles


def tile(start: int, end: int, context_length: int, core_length: int, bin_size: int) -> list[Tile]:
    """Windows that together predict the bins of a region (:func:`region_bins`) once; see :class:`Tiling`.

    Args:
        start: region start, 0-based.
        end: region end, exclusive.
        context_length: bases that the model reads.
        core_length: bases that the model predicts.
        bin_size: bases per output bin.
    """
    return Tiling(context_length, core_length, bin_size).tiles(*region_bins(start, end, bin_size))
