"""What the methods of a model take for regions and variants: files, text, tuples, tables."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from gexpr.errors import ConfigError, GexprError, shown
from gexpr.genome.bed import read_bed
from gexpr.genome.contigs import ContigMap
from gexpr.genome.examples import resolve_bed, resolve_vcf
from gexpr.genome.fasta import Fasta
from gexpr.genome.places import open_ended, parse_region
from gexpr.results import Region
from gexpr.runs.predict import place_regions
from gexpr.variants.vcf import VcfRecord, open_vcf

PathLike = str | os.PathLike[str]


def read_regions(
    regions: PathLike | Iterable[Any], genome: Fasta, contigs: ContigMap
) -> tuple[list[Region], list[Region]]:
    """Regions as they were given, and with the genome's names of contigs.

    Args:
        regions: what :meth:`gexpr.api.Model.predict` takes.
        genome: where they lie.
        contigs: the genome's names.

    Raises:
        GexprError: one cannot be read, or does not lie in the genome.
    """
    label, wanted = _parsed(regions)
    wanted = [_closed(region, genome, contigs) for region in wanted]
    return wanted, place_regions(wanted, genome, contigs, label)


def _parsed(regions: PathLike | Iterable[Any]) -> tuple[str, list[Region]]:
    """What messages call the regions, and the regions."""
    if isinstance(regions, str) and ":" in regions and not os.path.exists(regions):
        regions = [regions]
    if isinstance(regions, str | os.PathLike):
        return os.fspath(regions), read_bed(resolve_bed(regions))
    if isinstance(regions, tuple) and len(regions) >= 3 and isinstance(regions[1], int):
        regions = [regions]
    elif hasattr(regions, "to_dict") and hasattr(regions, "columns"):
        missing = [name for name in ("chrom", "start", "end") if name not in regions.columns]
        if missing:
            raise ConfigError(f"the table of regions has no column {missing[0]!r}")
        regions = [
            (
                row["chrom"],
                row["start"],
                row["end"],
                *(row.get(key, ".") for key in ("name", "score", "strand")),
            )
            for row in regions.to_dict("records")
        ]
    found = []
    for number, each in enumerate(regions, start=1):
        if isinstance(each, str):
            region = parse_region(each)
        else:
            try:
                chrom, start, end, *rest = each
                name, score, strand = [*map(str, rest), ".", ".", "."][:3]
                region = Region(str(chrom), int(start), int(end), name, score, strand)
            except (TypeError, ValueError):
                raise ConfigError(
                    f"region {number}: {shown(each)} is neither text such as 'chrI:1-100' nor "
                    "(chrom, start, end)"
                ) from None
        if not 0 <= region.start < region.end:
            raise ConfigError(f"region {number}: {shown(each)} is empty or begins before the contig")
        found.append(region._replace(line=number))
    return "regions", found


def _closed(region: Region, genome: Fasta, contigs: ContigMap) -> Region:
    """A region that reaches to the end of its contig, with that end."""
    contig = contigs.resolve(region.chrom)
    return region._replace(end=genome.lengths[contig]) if contig and open_ended(region) else region


_TEXT = re.compile(r"(.+):([\d,]+)[:\s]+([^:>\s]+)\s*[:>]\s*(\S+)")


def read_variants(variants: PathLike | Iterable[Any]) -> Iterator[VcfRecord]:
    """Records of a VCF, or of what :meth:`gexpr.api.Model.score` takes in its place.

    Raises:
        GexprError: one cannot be read; the message names it.
    """
    if isinstance(variants, str) and _TEXT.fullmatch(variants) and not os.path.exists(variants):
        variants = [variants]
    if isinstance(variants, str | os.PathLike):
        yield from open_vcf(resolve_vcf(variants)).records()
        return
    rows: Iterable[Any] = variants
    if hasattr(variants, "to_dict") and hasattr(variants, "columns"):
        rows = variants.to_dict("records")
    for number, each in enumerate(rows, start=1):
        yield _record(each, number)


def _record(each: Any, number: int) -> VcfRecord:
    name = "."
    try:
        if isinstance(each, str):
            match = _TEXT.fullmatch(each.strip())
            if match is None:
                raise ValueError
            chrom, pos, ref, alt = match.groups()
            pos = pos.replace(",", "")
        elif isinstance(each, Mapping):
            chrom, pos, ref, alt = (each[key] for key in ("chrom", "pos", "ref", "alt"))
            name = str(each.get("id", "."))
        else:
            chrom, pos, ref, alt = each
        record = VcfRecord(number, str(chrom), int(pos), name, str(ref), tuple(str(alt).split(",")))
    except (KeyError, TypeError, ValueError):
        raise ConfigError(
            f"variant {number}: {shown(each)} is neither text such as 'chrI:141592:T:G' nor "
            "chrom, pos, ref, alt"
        ) from None
    if not record.ref or not all(record.alts) or record.pos < 0:
        raise GexprError(f"variant {number}: {shown(each)} has an empty allele or a negative position")
    return record
