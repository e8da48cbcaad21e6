"""Plain records passed between layers. Coordinates are 0-based half-open unless named ``pos``."""

from __future__ import annotations

import math
from typing import NamedTuple

AFFINE = "affine:shift="
"""How the ``transform`` of a track begins whose target was ``scale * value + shift``."""


class Region(NamedTuple):
    """One genomic interval, as read from a BED line."""

    chrom: str
    start: int
    end: int
    name: str = "."
    score: str = "."
    strand: str = "."
    line: int | None = None


class Track(NamedTuple):
    """One output of a model: a row of ``tracks.tsv``.

    ``scale`` is the multiplier that was applied to the training target (Basenji's convention).
    ``transform`` says what a prediction means: ``count``, ``squashed:...``, ``log2``, ``ln``,
    ``linear`` or ``affine:shift=...`` (:func:`affine_transform`). ``strand_pair`` is the index of the
    same signal on the other strand (the track's own index when it has no partner).
    """

    index: int  # type: ignore[assignment]
    id: str
    label: str
    assay: str = ""
    cell_type: str = ""
    strand: str = "."
    strand_pair: int = -1
    scale: float = 1.0
    transform: str = "count"


class Variant(NamedTuple):
    """One ALT allele of one VCF record: exactly one row of output.

    ``chrom``, ``pos``, ``id``, ``ref``, ``alt`` are spelt as in the input. When ``status`` is
    ``ok``, ``contig`` is the FASTA's name of the chromosome and ``start`` (0-based), ``norm_ref``,
    ``norm_alt`` are the trimmed, left-aligned, upper-case alleles (either may be empty).
    """

    row: int
    line: int
    chrom: str
    pos: int
    id: str
    ref: str
    alt: str
    status: str
    contig: str = ""
    start: int = -1
    norm_ref: str = ""
    norm_alt: str = ""

    @property
    def ok(self) -> bool:
        """Whether the allele can be scored."""
        return self.status == "ok"


def affine_transform(shift: float) -> str:
    """The ``transform`` of a track whose target is ``scale * value + shift``: ``affine:shift=...``.

    A standardized target has ``scale`` 1 / sd and ``shift`` -mean / sd.

    Raises:
        ValueError: the shift is no finite number.
    """
    if not math.isfinite(shift):
        raise ValueError(f"the shift {shift} of an affine transform is not a finite number")
    return f"{AFFINE}{float(shift)!r}"


def affine_shift(transform: str) -> float | None:
    """The shift of a transform made by :func:`affine_transform`; None for another kind of transform.

    Raises:
        ValueError: it begins like one, but its shift is no finite number.
    """
    if not transform.startswith("affine"):
        return None
    try:
        shift = float(transform.removeprefix(AFFINE)) if transform.startswith(AFFINE) else math.nan
    except ValueError:
        shift = math.nan
    if not math.isfinite(shift):
        raise ValueError(f"transform {transform[:60]!r} is not {AFFINE} and a finite number")
    return shift
