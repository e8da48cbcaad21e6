"""Turn a genome and measured tracks into a prepared dataset (``gexpr prepare``)."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from gexpr.datasets import transforms
from gexpr.datasets.coverage import Coverage, open_coverage
from gexpr.datasets.prepared import FORMAT, FORMAT_VERSION, NO_SPLIT, SPLITS, padded
from gexpr.datasets.tables import TrackSpec, read_track_table, tracks_of
from gexpr.errors import GexprError, InputError
from gexpr.genome.bed import read_bed
from gexpr.genome.contigs import ContigMap
from gexpr.genome.fasta import Fasta

_CHUNK_BINS = 4096


@dataclass(frozen=True)
class PrepareOptions:
    """Settings of :func:`prepare`; lengths in bases unless said otherwise.

    Attributes:
        context_length: bases that the model sees.
        bin_size: bases of a bin.
        target_length: predicted bins of a window, centered; None for all but ``crop_bp`` a side.
        crop_bp: bases without prediction on each side; used when ``target_length`` is None.
        stride: step between training windows; None for their predicted width (no overlap).
            Validation and test windows never overlap.
        valid, test: contigs held out; every other contig is for training.
        split_bed: BED of chrom, start, end, split (train, valid or test) instead of ``valid`` and
            ``test``; bins outside its regions belong to no split.
        exclude: contigs left out altogether.
        blacklist: BED of regions whose bins are excluded from loss and metrics.
        max_gap_fraction: windows with a larger fraction of invalid bins are dropped.
        soft_clip: ``clip_soft`` of the tracks whose table has none.
    """

    context_length: int
    bin_size: int
    target_length: int | None = None
    crop_bp: int | None = None
    stride: int | None = None
    valid: tuple[str, ...] = ()
    test: tuple[str, ...] = ()
    split_bed: Path | None = None
    exclude: tuple[str, ...] = ()
    blacklist: Path | None = None
    max_gap_fraction: float = 0.5
    soft_clip: float | None = None

    def bins(self) -> int:
        """Number of predicted bins, checked against the other lengths."""
        context, size = self.context_length, self.bin_size
        if size < 1 or context < size or context % size:
            raise GexprError(f"context length {context} is not a multiple of the bin size {size}")
        total = context // size
        if self.target_length is not None and self.crop_bp is not None:
            raise GexprError("give either the target length or the crop, not both")
        if self.target_length is not None:
            bins = self.target_length
            if not 0 < bins <= total or (total - bins) % 2:
                raise GexprError(
                    f"target length {bins} does not fit: the context has {total} bins and an equal whole "
                    "number of them is cropped on each side"
                )
            return bins
        crop = self.crop_bp or 0
        if crop < 0 or crop % size or 2 * crop >= context:
            raise GexprError(
                f"crop of {crop} bp does not fit: it must be a multiple of the bin size {size} and less than "
                f"half of the context length {context}"
            )
        return total - 2 * crop // size


@dataclass
class TrackSummary:
    """What became of one track.

    Attributes:
        counts: sum of the signal over the kept contigs, before scale and clip.
        targets: sum of the targets that were written.
        largest: largest target.
        soft_clipped, clipped: bins above a limit.
        other_strand: BED lines of the other strand, which this track does not count.
        unknown_contigs: lines (bigWig: 1) by contig that the FASTA does not have.
    """

    id: str
    counts: float = 0.0
    targets: float = 0.0
    largest: float = 0.0
    soft_clipped: int = 0
    clipped: int = 0
    other_strand: int = 0
    unknown_contigs: dict[str, int] = field(default_factory=dict)


@dataclass
class PrepareSummary:
    """What :func:`prepare` kept and dropped; ``lines()`` is the text that the command prints.

    Attributes:
        windows, bins, contigs: by split. Bins are those of the split that count for loss and metrics.
        dropped_windows: windows with too many invalid bins, by split.
        gap_bins, blacklist_bins: bins marked as invalid for either reason.
    """

    path: Path
    digest: str = ""
    windows: dict[str, int] = field(default_factory=dict)
    bins: dict[str, int] = field(default_factory=dict)
    contigs: dict[str, list[str]] = field(default_factory=dict)
    excluded: list[str] = field(default_factory=list)
    dropped_windows: dict[str, int] = field(default_factory=dict)
    gap_bins: int = 0
    blacklist_bins: int = 0
    tracks: list[TrackSummary] = field(default_factory=list)

    def lines(self) -> list[str]:
        """The summary as lines of text."""
        out = [f"wrote {self.path} (digest {self.digest[:12]})"]
        for split in SPLITS:
            names = self.contigs.get(split, [])
            shown = ", ".join(names) if len(names) <= 6 else f"{len(names)} contigs"
            dropped = self.dropped_windows.get(split, 0)
            out.append(
                f"{split:<6}{self.windows.get(split, 0):>8,} windows {self.bins.get(split, 0):>12,} bins"
                f"  {shown or '-'}" + (f"; {dropped:,} windows dropped (gaps)" if dropped else "")
            )
        if self.excluded:
            out.append(f"excluded contigs: {', '.join(self.excluded)}")
        if self.gap_bins or self.blacklist_bins:
            out.append(f"invalid bins: {self.gap_bins:,} in gaps, {self.blacklist_bins:,} blacklisted")
        width = max((len(track.id) for track in self.tracks), default=2)
        out.append(f"{'track':<{width}}  {'counts':>14} {'targets':>14} {'largest':>10} {'soft-clipped':>12}")
        for track in self.tracks:
            out.append(
                f"{track.id:<{width}}  {track.counts:>14,.0f} {track.targets:>14,.1f} "
                f"{track.largest:>10,.1f} {track.soft_clipped:>12,}"
                + (f"  {track.clipped:,} clipped" if track.clipped else "")
            )
        unknown: dict[str, int] = {}
        for track in self.tracks:
            for name, count in track.unknown_contigs.items():
                unknown[name] = max(unknown.get(name, 0), count)
        if unknown:
            shown = ", ".join(sorted(unknown)[:5]) + (", ..." if len(unknown) > 5 else "")
            out.append(f"not used: signal on {len(unknown)} contigs that the FASTA does not have ({shown})")
        return out


def prepare(
    fasta: str | os.PathLike[str],
    tracks: str | os.PathLike[str],
    output: str | os.PathLike[str],
    options: PrepareOptions,
    progress: Callable[[str], None] | None = None,
) -> PrepareSummary:
    """Write a prepared dataset.

    The file appears under its name only when it is complete. Equal input and options give an
    equal ``digest``.

    Args:
        fasta: genome, plain or bgzipped.
        tracks: track table (:func:`~gexpr.datasets.tables.read_track_table`).
        output: HDF5 file to write; replaced when it exists.
        progress: called with the name of each contig when it is done.

    Raises:
        GexprError: options that do not fit together or an unknown contig.
        InputError: a file that cannot be accepted, with the line.
    """
    output = Path(output)
    target_length = options.bins()
    _check_options(options, target_length)
    specs = read_track_table(tracks)
    genome = Fasta(fasta)
    lengths = dict(genome.lengths)
    owners = _split_regions(options, lengths, output)
    excluded = _resolve(options.exclude, lengths, "--exclude")
    kept = [name for name in genome.names if name not in excluded and owners.get(name)]
    if not any(split == "train" for name in kept for _, _, split in owners[name]):
        raise GexprError("no contig is left for training")
    blacklist = _intervals(options.blacklist, lengths)

    summary = PrepareSummary(path=output, excluded=[name for name in genome.names if name in excluded])
    sources = [_open(spec, lengths) for spec in specs]
    for spec, opened in zip(specs, sources, strict=True):
        row = TrackSummary(spec.id)
        for source in opened:
            row.other_strand += source.dropped.other_strand
            for name, count in source.dropped.unknown_contigs.items():
                row.unknown_contigs[name] = row.unknown_contigs.get(name, 0) + count
        summary.tracks.append(row)

    digest = hashlib.sha256()
    windows: list[tuple[int, int, int]] = []
    output.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(prefix=f".{output.name}.", dir=output.parent)
    os.close(descriptor)
    try:
        with h5py.File(temporary, "w") as file:
            for index, contig in enumerate(kept):
                arrays = _contig_arrays(
                    genome,
                    contig,
                    specs,
                    sources,
                    blacklist.get(contig, []),
                    owners[contig],
                    options,
                    summary,
                )
                for name, values in arrays.items():
                    _write(file, f"contigs/{contig}/{name}", values)
                    _update(digest, f"{contig}/{name}", values)
                windows += _contig_windows(
                    index, contig, arrays, owners[contig], options, target_length, summary
                )
                if progress is not None:
                    progress(contig)
            _finish(file, digest, kept, windows, specs, options, target_length, genome, summary)
        with open(temporary, "rb+") as handle:
            os.fsync(handle.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, output)
    except BaseException:
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise
    return summary


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _check_options(options: PrepareOptions, target_length: int) -> None:
    width = target_length * options.bin_size
    stride = options.stride
    if stride is not None and (stride < options.bin_size or stride % options.bin_size):
        raise GexprError(f"stride {stride} is not a positive multiple of the bin size {options.bin_size}")
    if stride is not None and stride > width:
        raise GexprError(
            f"stride {stride} is wider than the {width} bp that a window predicts; bins would be lost"
        )
    if not 0 <= options.max_gap_fraction < 1:
        raise GexprError(f"max gap fraction {options.max_gap_fraction} is not in [0, 1)")
    if options.soft_clip is not None and options.soft_clip < 1:
        raise GexprError(f"soft clip {options.soft_clip} is below 1")
    if options.split_bed is not None and (options.valid or options.test):
        raise GexprError("give either the split BED or contigs for validation and test, not both")


def _resolve(names: Iterable[str], lengths: dict[str, int], option: str) -> set[str]:
    contigs = ContigMap(list(lengths))
    found = set()
    for name in names:
        contig = contigs.resolve(name)
        if contig is None:
            shown = ", ".join(list(lengths)[:8]) + (", ..." if len(lengths) > 8 else "")
            near = contigs.near(name)
            raise GexprError(f"{option}: the FASTA has no contig {name!r} (it has {shown}){near}")
        found.add(contig)
    return found


def _split_regions(
    options: PrepareOptions, lengths: dict[str, int], output: Path
) -> dict[str, list[tuple[int, int, str]]]:
    """Contig -> (start, end, split) regions, in order and without overlap."""
    if options.split_bed is None:
        valid = _resolve(options.valid, lengths, "--valid")
        test = _resolve(options.test, lengths, "--test")
        both = sorted(valid & test)
        if both:
            raise GexprError(f"contig {both[0]} is in both --valid and --test")
        return {
            name: [(0, length, "valid" if name in valid else "test" if name in test else "train")]
            for name, length in lengths.items()
        }
    contigs = ContigMap(list(lengths))
    regions: dict[str, list[tuple[int, int, str]]] = {}
    for region in read_bed(options.split_bed):
        contig = contigs.resolve(region.chrom)
        place: dict[str, Any] = {"path": options.split_bed, "line": region.line}
        if contig is None:
            near = contigs.near(region.chrom)
            raise InputError(f"the FASTA has no contig {region.chrom!r}{near}", **place)
        if region.name not in SPLITS:
            raise InputError(
                f"the split (column 4) is {region.name!r}; allowed: {', '.join(SPLITS)}", **place
            )
        if region.end > lengths[contig]:
            raise InputError(f"the region ends past the end of {contig} ({lengths[contig]} bases)", **place)
        regions.setdefault(contig, []).append((region.start, region.end, region.name))
    for contig, found in regions.items():
        found.sort()
        for (_, end, split), (start, _, other) in itertools.pairwise(found):
            if start < end:
                raise InputError(
                    f"a {split} and a {other} region overlap on {contig} at {start}-{end}",
                    path=options.split_bed,
                )
    return regions


def _intervals(path: Path | None, lengths: dict[str, int]) -> dict[str, list[tuple[int, int]]]:
    found: dict[str, list[tuple[int, int]]] = {}
    if path is None:
        return found
    contigs = ContigMap(list(lengths))
    for region in read_bed(path):
        contig = contigs.resolve(region.chrom)
        if contig is not None:
            found.setdefault(contig, []).append((region.start, min(region.end, lengths[contig])))
    return found


def _open(spec: TrackSpec, lengths: dict[str, int]) -> list[Coverage]:
    return [open_coverage(path, spec.format, lengths, spec.strand, spec.count_column) for path in spec.files]


def _contig_arrays(
    genome: Fasta,
    contig: str,
    specs: list[TrackSpec],
    sources: list[list[Coverage]],
    blacklist: list[tuple[int, int]],
    owners: list[tuple[int, int, str]],
    options: PrepareOptions,
    summary: PrepareSummary,
) -> dict[str, np.ndarray]:
    size = options.bin_size
    codes = genome.codes(contig, 0, genome.lengths[contig])
    bins = len(codes) // size
    targets = np.zeros((bins, len(specs)), dtype=np.float32)
    for i, (spec, opened) in enumerate(zip(specs, sources, strict=True)):
        values = opened[0].values(contig)
        for source in opened[1:]:
            values = values + source.values(contig)
        limit = spec.clip_soft if spec.clip_soft is not None else options.soft_clip
        targets[:, i] = transforms.target(values, size, spec.scale, spec.sum_stat, limit, spec.clip)
        row = summary.tracks[i]
        row.counts += float(values.sum())
        row.targets += float(targets[:, i].sum(dtype=np.float64))
        row.largest = max(row.largest, float(targets[:, i].max(initial=0.0)))
        # Both clips keep order and leave the limit itself alone, so the result tells what was above.
        row.soft_clipped += 0 if limit is None else int((targets[:, i] > limit).sum())
        if spec.clip is not None:
            loose = transforms.target(values, size, spec.scale, spec.sum_stat, limit, None)
            row.clipped += int((loose > spec.clip).sum())
    gap = (codes[: bins * size].reshape(bins, size) > 3).any(axis=1)
    black = np.zeros(bins, dtype=bool)
    for start, end in blacklist:
        black[start // size : -(-end // size)] = True
    owner = np.full(bins, NO_SPLIT, dtype=np.uint8)
    for start, end, split in owners:
        owner[-(-start // size) : end // size] = SPLITS.index(split)
    summary.gap_bins += int(gap.sum())
    summary.blacklist_bins += int(black.sum())
    valid = ~(gap | black)
    for index, split in enumerate(SPLITS):
        count = int((valid & (owner == index)).sum())
        summary.bins[split] = summary.bins.get(split, 0) + count
    return {"sequence": codes, "targets": targets, "valid": valid, "split": owner}


def _contig_windows(
    index: int,
    contig: str,
    arrays: dict[str, np.ndarray],
    owners: list[tuple[int, int, str]],
    options: PrepareOptions,
    target_length: int,
    summary: PrepareSummary,
) -> list[tuple[int, int, int]]:
    """Windows (contig index, start of the context, split index) that cover every bin of each region."""
    size = options.bin_size
    crop = (options.context_length // size - target_length) // 2
    found = []
    for start, end, split in owners:
        number = SPLITS.index(split)
        summary.windows.setdefault(split, 0)
        summary.dropped_windows.setdefault(split, 0)
        if contig not in summary.contigs.setdefault(split, []):
            summary.contigs[split].append(contig)
        step = options.stride // size if options.stride is not None and split == "train" else target_length
        first, last = -(-start // size), end // size
        usable = arrays["valid"] & (arrays["split"] == number)
        for bin_start in range(first, last, step):
            inside = padded(usable, bin_start, bin_start + target_length, False)
            reach = min(bin_start + target_length, last) - bin_start
            if inside[:reach].mean() < 1.0 - options.max_gap_fraction:
                summary.dropped_windows[split] += 1
                continue
            found.append((index, (bin_start - crop) * size, number))
            summary.windows[split] += 1
            if bin_start + target_length >= last:
                break
    return found


def _write(file: h5py.File, name: str, values: np.ndarray) -> None:
    if not len(values):
        file.create_dataset(name, data=values)
        return
    rows = _CHUNK_BINS if name.endswith("targets") else 1 << 18
    chunks = (min(rows, len(values)), *values.shape[1:])
    file.create_dataset(
        name, data=values, chunks=chunks, compression="gzip", compression_opts=4, shuffle=True
    )


def _update(digest: Any, name: str, values: np.ndarray) -> None:
    digest.update(f"{name} {values.dtype.str} {values.shape}\n".encode())
    digest.update(np.ascontiguousarray(values).tobytes())


def _finish(
    file: h5py.File,
    digest: Any,
    kept: list[str],
    windows: list[tuple[int, int, int]],
    specs: list[TrackSpec],
    options: PrepareOptions,
    target_length: int,
    genome: Fasta,
    summary: PrepareSummary,
) -> None:
    text = h5py.string_dtype("utf-8")
    table = np.array(windows, dtype=[("contig", "<i4"), ("start", "<i8"), ("split", "u1")])
    file.create_dataset("windows", data=table)
    file.create_dataset("contig_names", data=np.array(kept, dtype=object), dtype=text)
    columns = [(name, text) for name in ("id", "label", "assay", "cell_type", "strand", "transform")]
    rows = np.zeros(len(specs), dtype=[*columns, ("strand_pair", "<i4"), ("scale", "<f8")])
    for i, track in enumerate(tracks_of(specs)):
        for name in rows.dtype.names or ():
            rows[name][i] = getattr(track, name)
    file.create_dataset("tracks", data=rows)
    provenance = {
        "fasta": Path(genome.path).name,
        "fasta_digest": genome.digest(),
        "files": {spec.id: [file.name for file in spec.files] for spec in specs},
        "track_settings": {
            spec.id: {
                "sum_stat": spec.sum_stat,
                "clip": spec.clip,
                "clip_soft": spec.clip_soft if spec.clip_soft is not None else options.soft_clip,
            }
            for spec in specs
        },
        "valid": list(options.valid),
        "test": list(options.test),
        "excluded": summary.excluded,
        "stride": options.stride,
        "max_gap_fraction": options.max_gap_fraction,
    }
    header = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "context_length": options.context_length,
        "bin_size": options.bin_size,
        "target_length": target_length,
        "splits": json.dumps(SPLITS),
        "provenance": json.dumps(provenance, sort_keys=True),
    }
    _update(digest, "windows", table)
    digest.update(json.dumps([header, kept, tracks_of(specs)], sort_keys=True).encode())
    summary.digest = digest.hexdigest()
    for name, value in {**header, "digest": summary.digest}.items():
        file.attrs[name] = value
