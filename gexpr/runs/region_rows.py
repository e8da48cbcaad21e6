"""What jobs on short regions share: the regions of a BED file or of the command line, each in its window."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from gexpr import logs
from gexpr.errors import ConfigError, InputError
from gexpr.genome.bed import read_bed
from gexpr.genome.contigs import ContigMap, read_aliases
from gexpr.genome.fasta import Fasta
from gexpr.results import Region
from gexpr.runs.common import DtypeCast, TaskOptions
from gexpr.runs.predict import asked_region, place_regions
from gexpr.scoring.definitions import Mask

OPTION = "--region"
"""What messages call regions of the command line."""


@dataclass(frozen=True)
class RegionOptions(TaskOptions):
    """What jobs on short regions have in common.

    Args:
        model: checkpoint, tracks, strands, shifts, batch, device and precision.
        contig_aliases: a table of contig names, or None.
        regions: in place of a BED file.
        length: take so many bases in the middle of each region; None takes all of it.
        mask: which bins are scored, around the region.
        format: the output's format, or None for its suffix.
        dtype: ``float32`` or ``float16``.

    Raises:
        ConfigError: a value that is not allowed.
    """

    regions: tuple[Region, ...] = ()
    length: int | None = None
    mask: Mask = Mask()  # noqa: RUF009
    format: str | None = None
    dtype: str = "float32"

    def __post_init__(self) -> None:
        super().__post_init__()
        DtypeCast(self.dtype)
        if self.length is not None and self.length < 1:
            raise ConfigError(f"the length of the regions' middle must be 1 or more, not {self.length}")


def check_source(bed: str | None, options: RegionOptions) -> str:
    """What messages call the regions: the BED's path, or :data:`OPTION`.

    Raises:
        ConfigError: there are regions of both kinds, or of none.
    """
    if (bed is None) != bool(options.regions):
        raise ConfigError("give regions either as a BED file or with --region")
    return OPTION if bed is None else bed


def read_regions(
    path: str, label: str, options: RegionOptions, genome: Fasta, contigs: ContigMap
) -> tuple[list[Region], list[Region]]:
    """The regions as they are spelt, and with the FASTA's contig names.

    Raises:
        InputError: a region on an unknown contig or past its end.
    """
    if options.regions:
        regions = list(options.regions)
        found = [asked_region(each, genome, contigs)[0] for each in regions]
    else:
        regions = read_bed(path, label)
        found = place_regions(regions, genome, contigs, label)
    placed = [_middle(each, options.length) for each in found]
    for region in placed:
        if region.start < 0 or region.end > genome.lengths[region.chrom]:
            raise InputError(
                f"the middle {options.length:,} bp of a region reach past the contig: "
                f"{region.chrom}:{region.start}-{region.end}",
                path=label,
                line=region.line,
            )
    if not regions:
        logs.warning(f"{label} has no regions; the output is empty")
    spelt = [new._replace(chrom=old.chrom) for old, new in zip(regions, placed, strict=True)]
    return spelt, placed


def _middle(region: Region, length: int | None) -> Region:
    if length is None:
        return region
    start = (region.start + region.end) // 2 - length // 2
    return region._replace(start=start, end=start + length)


def first_hdf5(paths: Sequence[str], formats: Sequence[str]) -> str | None:
    """The first of some outputs that is HDF5, or None."""
    return next((path for path, format in zip(paths, formats, strict=True) if format == "hdf5"), None)


def described_aliases(path: str | None) -> str:
    """A table of contig names as an attribute of an output."""
    return ",".join(f"{a}={b}" for a, b in sorted(read_aliases(path).items())) if path else ""


def digest_regions(placed: Sequence[Region]) -> str:
    """SHA-256 of regions with the FASTA's contig names."""
    text = repr([tuple(each) for each in placed])
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()
