"""A trained model, and how to load one."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch

from gexpr import checkpoints
from gexpr.api.inputs import PathLike, read_regions, read_variants
from gexpr.api.results import Attributions, Mutagenesis, Predictions, Scores
from gexpr.genome.codes import decode, reverse_complement
from gexpr.genome.contigs import ContigMap
from gexpr.genome.examples import resolve_fasta
from gexpr.genome.fasta import Fasta
from gexpr.interpretation.gradients import Attributor
from gexpr.interpretation.mutagenesis import (
    Changes,
    RegionScorer,
    by_kind,
    check_length,
    records,
    written_variants,
)
from gexpr.models.base import SequenceModel
from gexpr.results import Region, Variant
from gexpr.scoring.definitions import parse_mask
from gexpr.scoring.engine import FastaWindows, VariantScorer, allele_limit
from gexpr.scoring.predictor import Predictor, default_tracks, model_tracks
from gexpr.scoring.regions import predict_regions, region_spans
from gexpr.scoring.tracks import select_tracks
from gexpr.variants.alleles import AlleleReader
from gexpr.writers.regions import DELETION, INSERTION, oriented

MAX_ALLELE_LENGTH = 2000


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
        genome = Fasta(resolve_fasta(fasta))
        wanted, placed = read_regions(regions, genome, ContigMap(genome.names))
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
        with self.predictor(**options) as predictor:
            limit = min(max_allele_length, allele_limit(predictor))
            scorer = VariantScorer(
                predictor,
                FastaWindows(genome),
                statistics=_names(statistics),
                pseudocount=pseudocount,
                mask=parse_mask(mask),
                average=average,
                aggregate=aggregate,
                max_allele_length=limit,
            )
            reader = AlleleReader(genome, ContigMap(genome.names), limit, symbolic)
            found: list[Variant] = []
            for record in read_variants(variants):
                found += reader.split(record, len(found))
            scores = scorer.score(found, advance)
            values = np.stack([scores[name] for name in scorer.statistics])
            return Scores(found, scorer.statistics, list(scorer.tracks), values)

    def ism(
        self,
        fasta: PathLike,
        regions: PathLike | Iterable[Any],
        *,
        deletions: int = 0,
        insertions: bool = False,
        statistics: str | Sequence[str] = "logFC",
        mask: str = "all",
        pseudocount: float = 1.0,
        average: str = "predictions",
        aggregate: str | None = None,
        advance: Callable[[int], None] | None = None,
        **options: Any,
    ) -> Mutagenesis:
        """Score every change of the bases of regions, as ``gexpr ism`` does: each region in one window.

        Args:
            fasta: the genome, plain or bgzipped; ``example`` is yeast chromosome I.
            regions: as for :meth:`predict`; each must lie within what one window predicts.
            deletions: also delete so many bases from every position on; 0 for none.
            insertions: also insert each letter before every position.
            statistics: as for :meth:`score`, and so are pseudocount, average and aggregate.
            mask: ``all`` bins, or ``center:BP`` around the region.
            advance: called with the number of positions finished, as they finish.
            options: of :meth:`predictor`.

        Raises:
            GexprError: bad input or options; the message says which.
        """
        genome = Fasta(resolve_fasta(fasta))
        wanted, placed = read_regions(regions, genome, ContigMap(genome.names))
        changes = Changes(deletions, insertions)
        with self.predictor(**options) as predictor:
            for region in placed:
                check_length(region, predictor)
            scorer = RegionScorer(
                predictor,
                genome,
                max((region.end - region.start for region in placed), default=1),
                changes,
                statistics=_names(statistics),
                pseudocount=pseudocount,
                mask=parse_mask(mask),
                average=average,
                aggregate=aggregate,
            )
            kinds: dict[str, dict[str, list[Any]]] = {kind: {} for kind in ("", DELETION, INSERTION)}
            sequences: list[str] = []
            variants: list[Variant] = []
            numbers: list[int] = []
            rows: dict[str, list[Any]] = {
                name: [np.zeros((0, len(scorer.tracks)), np.float32)] for name in scorer.statistics
            }
            for number, (spelt, region) in enumerate(zip(wanted, placed, strict=True)):
                length = region.end - region.start
                codes = scorer.codes(region)
                scores = scorer.score_region(region, 0, length, advance)
                found = list(records(region, codes, changes, 0, length))
                places = np.array([(each.position, slot) for each in found for slot in each.slots], dtype=int)
                places = places.reshape(-1, 2)
                for name, values in scores.items():
                    rows[name].append(values[places[:, 0], places[:, 1]])
                    for kind, each in by_kind(values, changes, region.strand).items():
                        kinds[kind].setdefault(name, []).append(each)
                variants += written_variants(region._replace(chrom=spelt.chrom), found, len(variants))
                numbers += [number] * len(places)
                sequences.append(_bases(codes[1:-1], region))
            values = np.stack([np.concatenate(rows[name]) for name in scorer.statistics])
            alleles = Scores(variants, scorer.statistics, list(scorer.tracks), values)
            return Mutagenesis(
                wanted,
                alleles.tracks,
                sequences,
                *(kinds[""], kinds[DELETION], kinds[INSERTION]),
                alleles,
                np.array(numbers, dtype=np.int64),
            )

    def attribute(
        self,
        fasta: PathLike,
        regions: PathLike | Iterable[Any],
        *,
        method: str = "gradient",
        target: str = "log2sum",
        mask: str = "all",
        each_track: bool = False,
        correct: bool = True,
        steps: int = 32,
        baseline: str = "zeros",
        shuffles: int = 10,
        seed: int = 0,
        **options: Any,
    ) -> Attributions:
        """Attribute a prediction to the bases of regions, as ``gexpr attribute`` does.

        Args:
            fasta: the genome, plain or bgzipped; ``example`` is yeast chromosome I.
            regions: as for :meth:`ism`.
            method: ``gradient`` times input, or ``integrated`` gradients.
            target: ``log2sum``, log2(1 + sum) of the predictions over the scored bins, or ``sum``.
            mask: ``all`` bins, or ``center:BP`` around the region.
            each_track: attributions of each track instead of the sum of all.
            correct: subtract from gradients their mean over letters.
            steps: points of integrated gradients.
            baseline: where integrated gradients begin: ``zeros``, ``mean`` or ``shuffled``.
            shuffles: how many shuffled baselines.
            seed: of the shuffled baselines.
            options: of :meth:`predictor`.

        Raises:
            GexprError: bad input or options; the message says which.
        """
        genome = Fasta(resolve_fasta(fasta))
        wanted, placed = read_regions(regions, genome, ContigMap(genome.names))
        with self.predictor(**options) as predictor:
            attributor = Attributor(predictor, target=target, mask=parse_mask(mask), each_track=each_track)
            sequences, values, contributions, targets, starts = [], [], [], [], []
            for region in placed:
                check_length(region, predictor)
                codes, found = attributor.attribute(
                    genome,
                    region,
                    method=method,
                    correct=correct,
                    steps=steps,
                    baseline=baseline,
                    shuffles=shuffles,
                    seed=seed,
                )
                sequences.append(_bases(codes, region))
                values.append(oriented(found.values, region.strand))
                contributions.append(oriented(found.contributions, region.strand))
                targets.append(found.target)
                starts.append(found.baseline)
            shape = len(placed), len(attributor.tracks)
            return Attributions(
                wanted,
                list(attributor.tracks),
                *(sequences, values, contributions),
                np.array(targets, dtype=np.float64).reshape(shape),
                np.array(starts, dtype=np.float64).reshape(shape),
            )


def _names(statistics: str | Sequence[str]) -> list[str]:
    names = statistics.split(",") if isinstance(statistics, str) else statistics
    return [name.strip() for name in names]


def _bases(codes: Any, region: Region) -> str:
    """The bases of a region on its own strand, from its codes on the + strand."""
    return decode(reverse_complement(codes) if region.strand == "-" else codes)


def load(name_or_path: PathLike, device: str | torch.device = "cpu") -> Model:
    """Load a checkpoint: a :class:`Model`, which is a ``torch.nn.Module`` in eval mode.

    Args:
        name_or_path: a built-in name such as ``yeast-tss``, or a checkpoint folder.
        device: where the weights go.

    Raises:
        CheckpointError: there is no such checkpoint, or it is damaged.
    """
    return Model(checkpoints.load(name_or_path, device), os.fspath(name_or_path))
