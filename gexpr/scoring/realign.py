"""Alternate predictions of insertions and deletions, expressed on the reference's bins.

The alternate window starts at the same genome position as the reference window, so behind an
insertion or deletion its bins are displaced. To compare bin by bin, each alternate bin is spread
evenly over its bases and every reference base takes the value of its alternate base; deleted
reference bases take 0; the last base before an insertion takes the maximum over itself and the
inserted bases (the convention of SpliceAI and AlphaGenome); then the bases of each reference bin
are added up again.

Positions here are window coordinates: base 0 is the window's first base, ``first`` the first base
that the output covers, and bin b covers ``first + b * bin_size`` and the ``bin_size - 1`` bases
after it.

A model with a single bin says one thing of a window as a whole: its alternate predictions stay as they are.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

METHOD = "reference bins; deleted bases 0; inserted bases by their maximum at the base before them"


class Edits(NamedTuple):
    """Where each alternate allele replaces reference bases; int64 tensors of shape (variants,).

    ``anchor`` is the window coordinate of the first reference base of the allele, ``ref_length``
    and ``alt_length`` the lengths of the trimmed alleles (either may be 0).
    """

    anchor: torch.Tensor
    ref_length: torch.Tensor
    alt_length: torch.Tensor


def covered_bins(edits: Edits, bins: int, bin_size: int, first: int) -> torch.Tensor:
    """Reference bins that the alternate's output covers completely, (variants, bins) bool.

    An insertion pushes bases out of the window on the right. A deletion draws bases in, so that all bins
    stay covered, unless it lies left of what the output covers: then it draws bases out on the left.
    """
    start = first + bin_size * torch.arange(bins, device=edits.anchor.device)
    if bins == 1:
        return torch.ones((len(edits.anchor), 1), dtype=torch.bool, device=start.device)
    end = start + bin_size
    inserted = (edits.alt_length - edits.ref_length).clamp_min(0)[:, None]
    matched_end = (edits.anchor + torch.minimum(edits.ref_length, edits.alt_length))[:, None]
    last = first + bins * bin_size
    reaches_past = end > matched_end
    holds_anchor = (start < matched_end) & (end >= matched_end)
    needed = torch.where(reaches_past, end + inserted, end)
    needed = torch.where(holds_anchor, torch.maximum(needed, matched_end + inserted), needed)
    deleted = (edits.ref_length - edits.alt_length).clamp_min(0)[:, None]
    behind = end > matched_end + deleted
    drawn_out = behind & (torch.maximum(start, matched_end + deleted) - deleted < first)
    return torch.where(inserted > 0, needed <= last, ~drawn_out)


def to_reference_bins(alternate: torch.Tensor, edits: Edits, bin_size: int, first: int) -> torch.Tensor:
    """Alternate predictions on reference bins.

    Args:
        alternate: (variants, bins, tracks) predictions on the alternate window.
        edits: what each variant changes.
        bin_size: bases a bin.
        first: window coordinate of the first base of bin 0.

    Returns:
        (variants, bins, tracks). Variants whose alleles have equal lengths come back unchanged,
        bit by bit. Bins that :func:`covered_bins` calls uncovered hold no meaning.
    """
    bins = alternate.shape[1]
    shift = edits.alt_length - edits.ref_length
    if bins == 1 or not bool((shift != 0).any()):
        return alternate
    dtype, device = alternate.dtype, alternate.device
    start = (first + bin_size * torch.arange(bins, device=device))[None, :]
    end = start + bin_size
    matched_end = (edits.anchor + torch.minimum(edits.ref_length, edits.alt_length))[:, None]
    inserted = shift.clamp_min(0)[:, None]
    deleted = (-shift).clamp_min(0)[:, None]
    is_insertion = inserted > 0

    # Bases before the event keep their bin; the anchor of an insertion is handled by itself.
    left_end = torch.where(is_insertion, matched_end - 1, matched_end)
    left = (left_end - start).clamp(0, bin_size)
    result = alternate * (left.to(dtype) / bin_size).unsqueeze(-1)

    # Bases after the event come from at most two neighboring alternate bins.
    right_start = torch.maximum(start, matched_end + deleted)
    right = (end - right_start).clamp_min(0)
    source_end = end + shift[:, None] - first
    last_bin = torch.div(source_end - 1, bin_size, rounding_mode="floor")
    in_last = torch.minimum(right, source_end - last_bin * bin_size)
    in_previous = right - in_last
    for index, bases in ((last_bin, in_last), (last_bin - 1, in_previous)):
        gathered = alternate.gather(1, index.clamp(0, bins - 1).unsqueeze(-1).expand_as(alternate))
        result = result + gathered * (bases.to(dtype) / bin_size).unsqueeze(-1)

    # The anchor base takes the largest per-base value among itself and the inserted bases.
    anchor = matched_end - 1
    bin_index = torch.arange(bins, device=device)[None, :]
    low = torch.div(anchor - first, bin_size, rounding_mode="floor")
    high = torch.div(anchor + inserted - first, bin_size, rounding_mode="floor")
    inside = (bin_index >= low) & (bin_index <= high) & is_insertion
    lowest = torch.full((), -torch.inf, dtype=dtype, device=device)
    largest = torch.where(inside.unsqueeze(-1), alternate, lowest).amax(dim=1, keepdim=True)
    holds_anchor = (is_insertion & (start <= anchor) & (anchor < end)).unsqueeze(-1)
    result = torch.where(holds_anchor, result + largest / bin_size, result)

    return torch.where((shift != 0)[:, None, None], result, alternate)
