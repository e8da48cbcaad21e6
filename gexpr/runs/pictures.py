"""What the pictures of ``gexpr plot`` show: alleles, genes, predictions, measurements and scores."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from gexpr import logs
from gexpr.datasets.coverage import open_coverage
from gexpr.datasets.prepared import PreparedDataset
from gexpr.datasets.tables import guess_format
from gexpr.errors import ConfigError, InputError, shown, shown_name
from gexpr.genome.contigs import ContigMap
from gexpr.genome.fasta import Fasta
from gexpr.genome.genes import Gene, place_genes, read_genes
from gexpr.genome.places import Places
from gexpr.results import Region, Variant
from gexpr.runs.predict import place_regions
from gexpr.runs.score_rows import blocks_in, named_statistic, strongest_rows
from gexpr.scoring.engine import allele_limit
from gexpr.scoring.predictor import Predictor
from gexpr.scoring.profiles import AlleleProfiles, RegionProfiles, allele_profiles
from gexpr.scoring.regions import predict_regions, region_spans
from gexpr.scoring.tracks import select_tracks
from gexpr.scoring.transforms import NaturalScale
from gexpr.variants.alleles import STATUS_MEANINGS, AlleleReader
from gexpr.variants.vcf import VcfRecord, open_vcf
from gexpr.writers.score_file import ScoreFile
from gexpr.writers.score_summary import ScoreSummary, summarize

MOST_PAGES = 200
"""Pictures of one command, at most."""


def parse_allele(text: str) -> VcfRecord:
    """``chr:pos:ref:alt``, POS 1-based and with or without commas, as a record.

    Raises:
        ConfigError: it is not of this form.
    """
    match = re.fullmatch(r"(.+):([\d,]{1,18}):([A-Za-z]+):([A-Za-z]+|\*|\.|<.+>)", text.strip())
    if match is None:
        raise ConfigError(f"{shown(text)} is not a variant such as chr1:12345:A:G (POS is 1-based)")
    chrom, pos, ref, alt = match.groups()
    return VcfRecord(0, chrom, int(pos.replace(",", "") or 0), ".", ref, (alt,))


def find_records(path: str, ids: Sequence[str]) -> list[VcfRecord]:
    """The records of a VCF with these IDs, in the order of the IDs; without IDs all records.

    Raises:
        InputError: an ID that the file lacks, or too many records.
    """
    wanted = set(ids)
    found: dict[str, list[VcfRecord]] = {name: [] for name in ids}
    every: list[VcfRecord] = []
    for record in open_vcf(path).records():
        if not wanted:
            every.append(record)
            if len(every) > MOST_PAGES:
                raise InputError(f"more than {MOST_PAGES} records; choose some with --id", path=path)
        elif names := wanted.intersection(record.id.split(";")):
            for name in sorted(names):
                found[name].append(record)
    missing = [name for name, records in found.items() if not records]
    if missing:
        raise InputError(f"no record has the ID {shown_name(missing[0])}", path=path)
    return every or [record for records in found.values() for record in records]


def read_alleles(records: Iterable[VcfRecord], reader: AlleleReader) -> list[Variant]:
    """Every ALT of the records, each of which can be predicted.

    Raises:
        InputError: one cannot, with the reason.
    """
    variants: list[Variant] = []
    for record in records:
        variants += reader.split(record, len(variants))
    for variant in variants:
        if not variant.ok:
            name = f"{variant.chrom}:{variant.pos}:{variant.ref}:{variant.alt}"
            near = reader.contigs.near(variant.chrom) if variant.status == "contig_not_in_fasta" else ""
            raise InputError(f"{shown(name)}: {STATUS_MEANINGS[variant.status]} ({variant.status}){near}")
    return variants


def predict_alleles(
    predictor: Predictor, fasta: Fasta, contigs: ContigMap, records: Iterable[VcfRecord]
) -> list[AlleleProfiles]:
    """Predictions of both alleles of every ALT, over all that the model predicts.

    Raises:
        InputError: an allele that cannot be predicted.
    """
    reader = AlleleReader(fasta, contigs, min(2000, allele_limit(predictor)))
    return allele_profiles(predictor, fasta, read_alleles(records, reader))


def stored_alleles(
    path: str, ids: Sequence[str], alleles: Sequence[VcfRecord], tracks: str | None = None
) -> list[AlleleProfiles]:
    """The predictions that a file of scores holds for alleles, by their names or places.

    Args:
        path: HDF5 of ``gexpr score-variants --profiles``.
        ids: IDs, as the file's ``snp`` has them.
        alleles: places, matched by contig, POS, REF and ALT as spelt in the file.
        tracks: a selection; None is all.

    Raises:
        InputError: one of them is not in the file or was not scored, or the file has no predictions.
    """
    wanted: dict[str | tuple[str, int, str, str], list[int]] = {name: [] for name in ids}
    for each in alleles:
        wanted[each.chrom, each.pos, each.ref.upper(), each.alts[0].upper()] = []
    with ScoreFile(path) as file:
        columns = select_tracks(file.tracks, tracks)
        for start, end in file.blocks():
            names = file.texts("id", start, end)
            spelt = zip(
                file.texts("chrom", start, end),
                file.positions(start, end).tolist(),
                map(str.upper, file.texts("ref", start, end)),
                map(str.upper, file.texts("alt", start, end)),
                strict=True,
            )
            for row, (name, place) in enumerate(zip(names, spelt, strict=True), start=start):
                for key in (name, place):
                    if key in wanted:
                        wanted[key].append(row)
        found = []
        for wish, rows in wanted.items():
            if not rows:
                name = wish if isinstance(wish, str) else ":".join(map(str, wish))
                raise InputError(f"no row is {shown_name(name)}", path=path)
            found += [stored_profiles(file, row, columns) for row in rows]
    return found


def stored_profiles(file: ScoreFile, row: int, columns: Sequence[int]) -> AlleleProfiles:
    """The predictions that a file of scores holds for a row, in some tracks.

    Raises:
        InputError: the row was not scored, or the file has no predictions.
    """
    (variant,) = file.variants(row, row + 1)
    if not variant.ok:
        raise InputError(
            f"row {row} ({shown_name(variant.id)}) was not scored: {variant.status}", path=file.path
        )
    reference, alternate, start = file.profiles(row)
    return AlleleProfiles(
        variant,
        start,
        int(file.attributes.get("model_bin_size", 1)),
        tuple(file.tracks[column] for column in columns),
        reference[:, columns].astype(np.float32),
        alternate[:, columns].astype(np.float32),
    )


def genes_of(path: str, contigs: Iterable[str]) -> list[Gene]:
    """The genes of a file that lie on some contigs, under these contigs' names.

    Args:
        path: GTF, GFF3, BED or a table of genes.
        contigs: the contigs that are drawn.

    Raises:
        InputError: a fault of the file. That no gene lies on any of the contigs is a warning.
    """
    names = dict.fromkeys(contigs)
    genes = read_genes(path)
    known = ContigMap(names)
    if not any(known.resolve(gene.contig) for gene in genes):
        logs.warning(f"{path}: no gene lies on {', '.join(map(shown_name, names))}")
        return []
    return place_genes(genes, known, path=path).genes


def predict_region_profiles(
    predictor: Predictor, fasta: Fasta, contigs: ContigMap, regions: Sequence[Region]
) -> list[RegionProfiles]:
    """Predictions over regions, without measurements.

    Raises:
        ConfigError: a region on an unknown contig, or past its end.
    """
    bounded = []
    for region in regions:
        contig = contigs.resolve(region.chrom)
        end = region.end if contig is None else min(region.end, fasta.lengths[contig])
        bounded.append(region._replace(end=max(end, region.start + 1), strand="."))
    placed = place_regions(bounded, fasta, contigs, "--region")
    spans = region_spans(placed, predictor.bin_size)
    found = []
    for region, (start, _), values in zip(
        placed, spans, predict_regions(predictor, fasta, placed), strict=True
    ):
        nothing = np.full(values.shape, np.nan, dtype=np.float32)
        found.append(
            RegionProfiles(region.chrom, start, predictor.bin_size, tuple(predictor.tracks), values, nothing)
        )
    return found


def parse_measured(texts: Sequence[str]) -> list[tuple[str, str]]:
    """``TRACK=FILE`` each, as (track, file); ``FILE`` alone has an empty track.

    A path may hold ``=`` when it exists as it is.
    """
    pairs = []
    for text in texts:
        track, equals, path = text.rpartition("=")
        pairs.append((track.strip(), path) if equals and guess_format(Path(path)) is not None else ("", text))
    return pairs


def with_files(
    profiles: Sequence[RegionProfiles], measured: Sequence[tuple[str, str]], lengths: dict[str, int]
) -> list[RegionProfiles]:
    """Regions with what files measured there: sums over bins, in the files' unit.

    Args:
        profiles: predictions.
        measured: (track, file): a track's id, label or index, or empty where there is one track; files of
            one track are added. BED counts are those of the track's strand.
        lengths: contig -> bases.

    Raises:
        ConfigError: a track that is not predicted, or a suffix that does not tell the format.
        InputError: a fault of a file.
    """
    if not profiles:
        return []
    tracks = profiles[0].tracks
    filled = [each._replace(measured=each.measured.copy()) for each in profiles]
    for name, path in measured:
        columns = select_tracks(tracks, name or None)
        if len(columns) != 1:
            raise ConfigError(
                f"--measured {path} is for {len(columns)} tracks; write TRACK={path}, with one of "
                f"{', '.join(track.id for track in tracks[:8])}"
            )
        kind = guess_format(Path(path))
        if kind is None:
            raise ConfigError(
                f"--measured {path}: the suffix tells no format; .bw, .bigWig, .bedGraph and .bed do"
            )
        (column,) = columns
        coverage = open_coverage(path, kind, lengths, tracks[column].strand if kind == "bed" else ".")
        for each in filled:
            values = _bin_sums(coverage.values, each, lengths[each.contig])
            own = each.measured[:, column]
            each.measured[:, column] = np.where(np.isnan(own), values, own + values)
    return filled


def _bin_sums(values, profiles: RegionProfiles, length: int) -> NDArray[np.float64]:  # type: ignore[no-untyped-def]
    """Sums over bins of a signal by base; bases outside the contig count nothing."""
    low, high = max(0, profiles.start), min(length, profiles.end)
    bases = np.zeros(profiles.end - profiles.start)
    bases[low - profiles.start : high - profiles.start] = values(profiles.contig, low, high)
    sums: NDArray[np.float64] = bases.reshape(-1, profiles.bin_size).sum(axis=1)
    return sums


def dataset_region(region: Region, dataset: PreparedDataset) -> Region:
    """A region widened to whole bins of a dataset, so that predictions fall on them.

    Raises:
        ConfigError: the dataset has no such contig.
    """
    contig = ContigMap(dataset.contigs).resolve(region.chrom)
    if contig is None:
        raise ConfigError(f"the dataset {dataset.path} has no contig {shown_name(region.chrom)}")
    size = dataset.bin_size
    last = dataset.bins[contig]
    first, end = min(region.start // size, last - 1), min(-(-region.end // size), last)
    return region._replace(chrom=contig, start=first * size, end=max(end, first + 1) * size)


def with_dataset(profiles: Sequence[RegionProfiles], dataset: PreparedDataset) -> list[RegionProfiles]:
    """Regions with the targets of a prepared dataset, of the tracks with the same id, in natural scale.

    Args:
        profiles: predictions over regions of :func:`dataset_region`.
        dataset: with the model's bin size.

    Raises:
        ConfigError: another bin size, or no track in common.
    """
    filled = []
    names = {track.id: place for place, track in enumerate(dataset.tracks)}
    natural = NaturalScale(dataset.tracks)
    for each in profiles:
        shared = [(column, names[track.id]) for column, track in enumerate(each.tracks) if track.id in names]
        if each.bin_size != dataset.bin_size:
            raise ConfigError(
                f"{dataset.path} has bins of {dataset.bin_size} bp, the checkpoint of {each.bin_size} bp"
            )
        if not shared:
            raise ConfigError(f"{dataset.path} has none of the tracks that are predicted")
        first = each.start // each.bin_size
        rows = slice(first, first + len(each.predicted))
        targets = dataset.targets(each.contig)[rows]
        targets = natural(torch.from_numpy(np.array(targets, dtype=np.float32))).numpy()
        targets[~dataset.valid(each.contig)[rows]] = np.nan
        measured = np.full(each.predicted.shape, np.nan, dtype=np.float32)
        columns, places = zip(*shared, strict=True)
        measured[:, list(columns)] = targets[:, list(places)]
        filled.append(each._replace(measured=measured))
    return filled


def summarize_scores(
    path: str,
    *,
    statistic: str | None = None,
    tracks: str | None = None,
    regions: Sequence[Region] = (),
    top: int = 20,
    by: str = "abs",
) -> ScoreSummary:
    """What ``gexpr plot scores`` draws of a file of scores, which is read in pieces.

    Args:
        path: HDF5 of ``gexpr score-variants`` or ``gexpr export``.
        statistic: None is the file's first.
        tracks: a selection; None is all.
        regions: only rows whose REF overlaps one of these.
        top: how many of the strongest rows to name.
        by: what is strong, see :data:`gexpr.runs.score_rows.ORDERS`.

    Raises:
        GexprError: a bad file or value.
    """
    ranked = strongest_rows(
        path, count=top, statistic=statistic, tracks=tracks, regions=regions, by=by, overall=True
    )
    with ScoreFile(path) as file:
        return summarize(
            file,
            named_statistic(file, statistic),
            select_tracks(file.tracks, tracks),
            lambda: blocks_in(file, Places(regions) if regions else None),
            [each.variant.row for each in ranked],
        )
