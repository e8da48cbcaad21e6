"""The Python interface: a model that predicts regions and scores variants, and results as data frames.

    model = gexpr.load("yeast-tss")
    model.predict("example", ["chrI:140,900-141,900"]).to_frame()
    model.score("example", ["chrI:141592:T:G"]).to_frame()

The numbers are those of ``gexpr predict`` and ``gexpr score-variants``, which are for many regions and
variants: they write files, use several devices and survive interruption. Here everything stays in memory.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from gexpr import checkpoints
from gexpr.errors import ConfigError, GexprError, require, shown
from gexpr.genome.bed import read_bed
from gexpr.genome.contigs import ContigMap
from gexpr.genome.examples import resolve_bed, resolve_fasta, resolve_vcf
from gexpr.genome.fasta import Fasta
from gexpr.genome.places import open_ended, parse_region
from gexpr.models.base import SequenceModel
from gexpr.results import Region, Track, Variant
from gexpr.runs.predict import place_regions
from gexpr.scoring.definitions import parse_mask
from gexpr.scoring.engine import FastaWindows, VariantScorer, allele_limit
from gexpr.scoring.predictor import Predictor, default_tracks, model_tracks
from gexpr.scoring.regions import predict_regions, region_spans
from gexpr.scoring.tracks import select_tracks
from gexpr.variants.alleles import AlleleReader
from gexpr.variants.vcf import VcfRecord, open_vcf

if TYPE_CHECKING:
    import pandas
    import xarray

PathLike = str | os.PathLike[str]
_COLUMNS = ("chrom", "pos", "id", "ref", "alt", "status")
MAX_ALLELE_LENGTH = 2000


@dataclass(frozen=True)
class Predictions:
    """Predicted tracks over regions, in natural scale.

    Attributes:
        regions: what was predicted, 0-based half-open.
        starts: genome position of the first base of each region's leftmost bin.
        bin_size: bases of a bin.
        tracks: the columns.
        values: one float32 array (bins, tracks) a region; the bins of a ``-`` region run 5' to 3'.
    """

    regions: list[Region]
    starts: list[int]
    bin_size: int
    tracks: list[Track]
    values: list[NDArray[np.float32]]

    def __len__(self) -> int:
        return len(self.regions)

    def _bin_starts(self, index: int) -> NDArray[np.int64]:
        starts = self.starts[index] + self.bin_size * np.arange(len(self.values[index]))
        return starts[::-1] if self.regions[index].strand == "-" else starts

    def sums(self) -> pandas.DataFrame:
        """One row a region: ``chrom``, ``start``, ``end``, ``name``, ``strand`` and the sum of each track."""
        pd = require("pandas", "frames")
        rows = [(r.chrom, r.start, r.end, r.name, r.strand) for r in self.regions]
        frame = pd.DataFrame(rows, columns=["chrom", "start", "end", "name", "strand"])
        sums = np.array([values.sum(axis=0, dtype=np.float64) for values in self.values])
        sums = sums.reshape(len(self), len(self.tracks))
        return frame.assign(**{track.id: sums[:, i] for i, track in enumerate(self.tracks)})

    def to_frame(self) -> pandas.DataFrame:
        """One row a bin: ``region`` (its number), ``chrom``, ``start`` and ``end`` of the bin, each track."""
        pd = require("pandas", "frames")
        sizes = [len(values) for values in self.values]
        starts = [self._bin_starts(index) for index in range(len(self))]
        start = np.concatenate(starts) if starts else np.zeros(0, dtype=np.int64)
        values = np.concatenate(self.values) if self.values else np.zeros((0, len(self.tracks)), np.float32)
        frame = pd.DataFrame(
            {
                "region": np.repeat(np.arange(len(self)), sizes),
                "chrom": np.repeat(np.array([r.chrom for r in self.regions], dtype=object), sizes),
                "start": start,
                "end": start + self.bin_size,
            }
        )
        return frame.assign(**{track.id: values[:, i] for i, track in enumerate(self.tracks)})

    def to_xarray(self) -> xarray.DataArray:
        """Dimensions ``region``, ``bin`` and ``track``.

        Raises:
            ConfigError: the regions have different numbers of bins.
        """
        xr = require("xarray", "frames")
        sizes = sorted({len(values) for values in self.values})
        if len(sizes) != 1:
            raise ConfigError(
                f"regions of {sizes} bins are no array; use to_frame(), or regions of one length"
            )
        return xr.DataArray(
            np.stack(self.values),
            dims=("region", "bin", "track"),
            coords={
                "chrom": ("region", [region.chrom for region in self.regions]),
                "name": ("region", [region.name for region in self.regions]),
                "start": (("region", "bin"), np.stack([self._bin_starts(i) for i in range(len(self))])),
                "track": [track.id for track in self.tracks],
            },
            attrs={"bin_size": self.bin_size},
        )


@dataclass(frozen=True)
class Scores:
    """Scores of alleles.

    Attributes:
        variants: one for each ALT allele, in the order given, with ``status``.
        statistics: names.
        tracks: the columns.
        values: float32 (statistics, variants, tracks); NaN where the status is not ``ok``.
    """

    variants: list[Variant]
    statistics: tuple[str, ...]
    tracks: list[Track]
    values: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.variants)

    def to_frame(self) -> pandas.DataFrame:
        """One row an allele: ``chrom``, ``pos`` (1-based), ``id``, ``ref``, ``alt``, ``status`` and a column
        for each track, called by its id, or ``STATISTIC:id`` where there are several statistics.
        """
        pd = require("pandas", "frames")
        rows = [tuple(getattr(variant, name) for name in _COLUMNS) for variant in self.variants]
        frame = pd.DataFrame(rows, columns=list(_COLUMNS))
        several = len(self.statistics) > 1
        return frame.assign(
            **{
                f"{statistic}:{track.id}" if several else track.id: self.values[s, :, t]
                for s, statistic in enumerate(self.statistics)
                for t, track in enumerate(self.tracks)
            }
        )

    def to_xarray(self) -> xarray.Dataset:
        """A variable for each statistic, with the dimensions ``variant`` and ``track``."""
        xr = require("xarray", "frames")
        coords: dict[str, Any] = {
            name: ("variant", [getattr(variant, name) for variant in self.variants]) for name in _COLUMNS
        }
        coords["track"] = [track.id for track in self.tracks]
        return xr.Dataset(
            {name: (("variant", "track"), self.values[i]) for i, name in enumerate(self.statistics)}, coords
        )


class Model(torch.nn.Module):
    """A trained model: callable like the module it holds, and able to predict regions and score variants.

    ``model(x)`` maps one-hot sequences (batch, context_length, 4) to (batch, target_length, tracks).
    ``context_length``, ``bin_size``, ``target_length``, ``tracks``, ``config`` and whatever else the
    module has can be asked of the model.

    Args:
        module: a model of :mod:`gexpr.models`, in eval mode.
        name: what messages call it.

    Attributes:
        module: the module itself, whose parameters have no prefix in its ``state_dict()``.
    """

    def __init__(self, module: SequenceModel, name: str = "model") -> None:
        super().__init__()
        self.module = module
        self.name = name
        self.train(module.training)

    def forward(self, x: torch.Tensor, head: str | None = None) -> torch.Tensor:
        """Predictions of the module: (batch, context_length, 4) -> (batch, target_length, tracks)."""
        result: torch.Tensor = self.module(x, head)
        return result

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "module":  # not yet there, while a copy is made
                raise
            return getattr(self.module, name)

    def __repr__(self) -> str:
        module = self.module
        return (
            f"{type(self).__name__}({self.name!r}: {module.context_length:,} bp -> "
            f"{module.target_length:,} bins of {module.bin_size} bp x {len(model_tracks(module))} tracks)"
        )

    def predictor(
        self,
        *,
        tracks: str | None = None,
        device: str | torch.device | None = None,
        batch_size: int | None = None,
        reverse_complement: bool = True,
        shifts: Sequence[int] = (0,),
        precision: str = "fp32",
        merge_strands: bool = False,
    ) -> Predictor:
        """The module made ready to predict; see :class:`gexpr.scoring.predictor.Predictor`.

        Args:
            tracks: as ``--tracks``: ids, labels, patterns, indices, ``assay:NAME``; None is the first head's.
            device: None is where the module is.
            batch_size: sequences a forward pass; None chooses.
            reverse_complement: average over both strands of the sequence.
            shifts: average over windows moved by these numbers of bp.
            precision: ``fp32``, ``tf32``, ``fp16`` or ``bf16``.
            merge_strands: add the tracks of strand pairs.

        Raises:
            ConfigError: a value that is not allowed.
        """
        known = model_tracks(self.module)
        if device is None:
            device = next((p.device for p in self.module.parameters()), torch.device("cpu"))
        return Predictor(
            self.module,
            tracks=select_tracks(known, tracks, default_tracks(self.module)),
            device=device,
            batch_size=batch_size,
            reverse_complement=reverse_complement,
            shifts=shifts,
            precision=precision,
            merge_strands=merge_strands,
            names=[self.name],
        )

    def predict(self, fasta: PathLike, regions: PathLike | Iterable[Any], **options: Any) -> Predictions:
        """Predict the tracks over regions, as ``gexpr predict`` does.

        Args:
            fasta: the genome, plain or bgzipped; ``example`` is yeast chromosome I.
            regions: a BED file (``example``, or a path), or regions: text such as ``chrI:1,001-2,000``
                (1-based, end included), or (chrom, start, end[, name[, score[, strand]]]), 0-based half-open.
            options: of :meth:`predictor`.

        Raises:
            GexprError: bad input or options; the message says which.
        """
        label, wanted = _regions(regions)
        genome = Fasta(resolve_fasta(fasta))
        contigs = ContigMap(genome.names)
        wanted = [_closed(region, genome, contigs) for region in wanted]
        placed = place_regions(wanted, genome, contigs, label)
        with self.predictor(**options) as predictor:
            starts = [start for start, _ in region_spans(placed, predictor.bin_size)]
            values = list(predict_regions(predictor, genome, placed))
            return Predictions(wanted, starts, predictor.bin_size, list(predictor.tracks), values)

    def score(
        self,
        fasta: PathLike,
        variants: PathLike | Iterable[Any],
        *,
        statistics: str | Sequence[str] = "logFC",
        mask: str = "all",
        pseudocount: float = 1.0,
        average: str = "predictions",
        aggregate: str | None = None,
        symbolic: bool = False,
        max_allele_length: int = MAX_ALLELE_LENGTH,
        advance: Callable[[int], None] | None = None,
        **options: Any,
    ) -> Scores:
        """Score what alleles change, as ``gexpr score-variants`` does.

        Args:
            fasta: the genome, plain or bgzipped; ``example`` is yeast chromosome I.
            variants: a VCF or BCF file (``example``, or a path), or variants: text ``chrI:141592:T:G`` or
                ``chrI:141592:T>G``, (chrom, pos, ref, alt) or mappings with these names and perhaps ``id``;
                or a data frame with such columns. POS is 1-based.
            statistics: names, or text with commas: ``logFC``, ``SAD``, ``JS``, ... (docs/score-variants.md).
            mask: ``all`` bins, or ``center:BP`` around the variant.
            pseudocount: the c of logFC.
            average: ``predictions`` or ``scores``: what strands and shifts are averaged.
            aggregate: ``celltype`` or ``assay``: means of tracks that share it.
            symbolic: score ``<DEL>``, ``<DUP>``, ``<INV>`` and ``<INS>`` of a file too.
            max_allele_length: bases; longer alleles get the status ``too_long``.
            advance: called with the number of alleles finished, as they finish.
            options: of :meth:`predictor`.

        Raises:
            GexprError: bad input or options; the message says which. A variant that cannot be scored is no
                error: its row says why.
        """
        genome = Fasta(resolve_fasta(fasta))
        names = statistics.split(",") if isinstance(statistics, str) else list(statistics)
        with self.predictor(**options) as predictor:
            limit = min(max_allele_length, allele_limit(predictor))
            scorer = VariantScorer(
                predictor,
                FastaWindows(genome),
                statistics=[name.strip() for name in names],
                pseudocount=pseudocount,
                mask=parse_mask(mask),
                average=average,
                aggregate=aggregate,
                max_allele_length=limit,
            )
            reader = AlleleReader(genome, ContigMap(genome.names), limit, symbolic)
            found: list[Variant] = []
            for record in _records(variants):
                found += reader.split(record, len(found))
            scores = scorer.score(found, advance)
            values = np.stack([scores[name] for name in scorer.statistics])
            return Scores(found, scorer.statistics, list(scorer.tracks), values)


def load(name_or_path: PathLike, device: str | torch.device = "cpu") -> Model:
    """Load a checkpoint: a :class:`Model`, which is a ``torch.nn.Module`` in eval mode.

    Args:
        name_or_path: a built-in name such as ``yeast-tss``, or a checkpoint folder.
        device: where the weights go.

    Raises:
        CheckpointError: there is no such checkpoint, or it is damaged.
    """
    return Model(checkpoints.load(name_or_path, device), os.fspath(name_or_path))


def _regions(regions: PathLike | Iterable[Any]) -> tuple[str, list[Region]]:
    """What messages call the regions, and the regions."""
    if isinstance(regions, str) and ":" in regions and not os.path.exists(regions):
        regions = [regions]
    if isinstance(regions, str | os.PathLike):
        return os.fspath(regions), read_bed(resolve_bed(regions))
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


def _records(variants: PathLike | Iterable[Any]) -> Iterator[VcfRecord]:
    """Records of a file, or of what :meth:`Model.score` takes in its place."""
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
