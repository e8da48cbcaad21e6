"""Normal form of an allele: parsimonious and left-aligned, as ``vt normalize`` and ``bcftools norm``.

Reference: Tan, Abecasis and Kang, Bioinformatics 31:2202 (2015). Alleles here need no anchor base:
either may be empty.
"""

from __future__ import annotations

from collections.abc import Callable

_STEP = 64
_MAX_STEP = 1 << 16


def trim(start: int, ref: str, alt: str) -> tuple[int, str, str]:
    """Remove the bases that both alleles share at their ends: at the right first, then at the left.

    Args:
        start: 0-based position of the first base of ``ref``.
        ref: reference allele, in the same case as ``alt``.
        alt: alternate allele.

    Returns:
        (start, ref, alt) of the same change; either allele may be empty, both when they are equal.
    """
    shorter = min(len(ref), len(alt))
    right = 0
    while right < shorter and ref[-1 - right] == alt[-1 - right]:
        right += 1
    if right:
        ref, alt = ref[: len(ref) - right], alt[: len(alt) - right]
    left = 0
    while left < shorter - right and ref[left] == alt[left]:
        left += 1
    return start + left, ref[left:], alt[left:]


def left_align(start: int, ref: str, alt: str, fetch: Callable[[int, int], str]) -> tuple[int, str, str]:
    """Move a trimmed insertion or deletion as far left as the sequence allows.

    Args:
        start: 0-based position of the first base of ``ref`` (of the base behind an insertion).
        ref: reference allele, trimmed, in the case of ``fetch``.
        alt: alternate allele, trimmed.
        fetch: ``fetch(start, end)`` gives the bases of the contig; asked only for ``0 <= start < end``
            up to the variant's start.

    Returns:
        (start, ref, alt) of the same change. Anything but a pure insertion or deletion comes back
        as it is.
    """
    if bool(ref) == bool(alt):
        return start, ref, alt
    moved = ref or alt
    size = len(moved)
    # In genome[low:start] + moved, the change can move left by one base for every base that equals
    # the one `size` further right.
    text, low, shift, step = moved, start, 0, _STEP
    while low > 0:
        below = max(low - step, 0)
        text = fetch(below, low) + text
        low, step = below, min(step * 2, _MAX_STEP)
        at = start - low - 1 - shift
        while at >= 0 and text[at] == text[at + size]:
            at -= 1
            shift += 1
        if at >= 0:
            break
        # bases behind the moved allele are no longer needed
        text = text[:size]
    if not shift:
        return start, ref, alt
    at = start - shift - low
    moved = text[at : at + size]
    return start - shift, moved if ref else "", moved if alt else ""
