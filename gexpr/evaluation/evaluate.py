"""Measured against predicted on held-out contigs: bins, wider bins, genes, differences between conditions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gexpr import logs
from gexpr.datasets import PreparedDataset
from gexpr.datasets.prepared import SPLITS
from gexpr.errors import ConfigError, GexprError, InputError
from gexpr.evaluation.bins import BinMetrics, Density, Metric
from gexpr.evaluation.conditions import Condition, condition_values, conditions_of, gene_columns
from gexpr.evaluation.counts import CountScale, count_scales, restore_counts
from gexpr.evaluation.genes import Genes, PromoterWindow, window_sums
from gexpr.evaluation.groups import Group, groups_of
from gexpr.evaluation.matching import common_tracks, match
from gexpr.evaluation.metrics import pearson, r_squared
from gexpr.evaluation.predict import ContigPredictor, Models, members_of
from gexpr.evaluation.ridge import RidgeFit, kmer_counts, ridge
from gexpr.results import Track

MIN_COVERED = 0.5
"""Share of a gene's window that must lie in usable bins of the split."""
MAX_COMPARED = 30
"""Most conditions of which every pair is compared."""

Signal = Callable[[str], NDArray[np.floating]]


class GeneValues(NamedTuple):
    """Genes of a split with their values by condition.

    Attributes:
        genes: n genes.
        measured, predicted: float64 (n, conditions), log(1 + counts in the promoter window).
    """

    genes: Genes
    measured: NDArray[np.float64]
    predicted: NDArray[np.float64]


class Difference(NamedTuple):
    """A pair of conditions by index: ``b`` minus ``a``."""

    name: str
    a: int
    b: int


@dataclass
class Evaluation:
    """What a comparison found.

    Attributes:
        source: ``model``, ``ridge`` or ``replicates``.
        metrics: rows of metrics.tsv.
        conditions: in the order of the columns of ``genes``.
        differences: the pairs of conditions that were compared.
        genes: None when no genes were given.
        predicted_differences: float64 (genes, differences); those of the predicted levels, but of the
            ridge, which predicts differences by themselves. None without genes.
        densities: one a condition, over bins of ``bin_size``; empty where there are no bins (ridge).
        bin_size: bases of a bin.
        bin_unit: what a bin's target is: ``counts``, or ``targets`` where they were clipped or rescaled.
        window: the promoter window.
        notes: sentences about what was left out or chosen.
        tracks: those whose bins were compared.
        assay_densities: bins by assay, of datasets of windows; ``densities`` are empty then.
    """

    source: str
    split: str
    conditions: list[Condition]
    differences: list[Difference]
    bin_size: int
    bin_unit: str
    window: PromoterWindow
    metrics: list[Metric] = field(default_factory=list)
    genes: GeneValues | None = None
    predicted_differences: NDArray[np.float64] | None = None
    densities: list[Density] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    tracks: list[Track] = field(default_factory=list)
    assay_densities: dict[str, Density] = field(default_factory=dict)

    def value(self, level: str, name: str, transform: str = "log1p", statistic: str = "pearson") -> float:
        """One metric's value; KeyError when there is none such."""
        for row in self.metrics:
            if (row.level, row.name, row.transform, row.statistic) == (level, name, transform, statistic):
                return row.value
        raise KeyError((level, name, transform, statistic))

    @property
    def groups(self) -> list[Group]:
        """The statistics over bins by assay."""
        return groups_of(self.metrics, self.tracks)


class Settings(NamedTuple):
    """What every comparison is told.

    Attributes:
        split: which bins and genes count.
        genes: genes on the dataset's contigs, or None.
        window: around the start codon.
        pool_width: bases of the wider bins, a multiple of the bin size; None for none.
    """

    split: str = "test"
    genes: Genes | None = None
    window: PromoterWindow = PromoterWindow()
    pool_width: int | None = 128


def evaluate_model(
    dataset: PreparedDataset,
    models: Models,
    settings: Settings = Settings(),  # noqa: B008 (immutable)
    *,
    reverse_complement: bool = True,
    batch_size: int | None = None,
) -> Evaluation:
    """Compare the predictions of a model, or of an ensemble, with the targets of a split.

    Its first head is evaluated, on the tracks whose ids the dataset has.

    Raises:
        ConfigError: other bins than the dataset's, or no track in common.
        GexprError: the split has no contig, or the predictions are not finite.
    """
    members = members_of(models)
    model = members[0]
    if model.bin_size != dataset.bin_size:
        raise ConfigError(
            f"the model predicts bins of {model.bin_size} bp and {dataset.path} has bins of "
            f"{dataset.bin_size} bp; prepare the data with the model's bin size"
        )
    matched = match(dataset, model)
    predictor = ContigPredictor(
        members, matched.head, reverse_complement=reverse_complement, batch_size=batch_size
    )
    contigs = _contigs(dataset, settings.split)
    total = sum(len(predictor.windows(dataset.bins[contig])) for contig in contigs)
    with logs.progress("predicting", total, "windows") as bar:

        def predicted(contig: str) -> NDArray[np.floating]:
            values = predictor.predict(dataset.sequence(contig), dataset.bins[contig], bar.advance)
            return values[:, matched.theirs]

        result = compare(dataset, matched.own, predicted, settings, "model")
    result.notes = matched.notes + result.notes
    return result


def measured_vs_measured(
    dataset: PreparedDataset,
    other: PreparedDataset,
    settings: Settings = Settings(),  # noqa: B008 (immutable)
) -> Evaluation:
    """Compare two measurements of the same tracks as if ``other`` were a prediction of ``dataset``.

    Two replicates prepared alike give the ceiling: what a perfect model of one would reach on the
    other. Pearson's r does not depend on which comes first; R² does. Tracks are matched by id
    where ids agree, by position otherwise.

    Raises:
        ConfigError: other contigs, bins or tracks.
    """
    if (dataset.bin_size, dataset.lengths) != (other.bin_size, other.lengths):
        raise ConfigError(
            f"{dataset.path} and {other.path} differ in contigs or bin size; prepare both alike"
        )
    ids = {track.id for track in dataset.tracks}, {track.id for track in other.tracks}
    if not ids[0] & ids[1]:
        strands = [[track.strand for track in each.tracks] for each in (dataset, other)]
        if strands[0] != strands[1]:
            raise ConfigError(
                f"{dataset.path} and {other.path} have no track id in common, and their tracks do not match "
                f"by position either (strands {' '.join(strands[0])} and {' '.join(strands[1])})"
            )
        own = theirs = list(range(len(dataset.tracks)))
    else:
        own, theirs = common_tracks(dataset.tracks, other.tracks, str(dataset.path), str(other.path))

    def predicted(contig: str) -> NDArray[np.floating]:
        # A bin that either replicate lacks must not count.
        values = other.targets(contig)[:, theirs].astype(np.float32)
        return np.where(other.valid(contig)[:, None], values, np.nan)

    scales = count_scales(other)
    return compare(dataset, own, predicted, settings, "replicates", [scales[i] for i in theirs])


def compare(
    dataset: PreparedDataset,
    columns: Sequence[int],
    predicted: Signal,
    settings: Settings,
    source: str,
    predicted_scales: list[CountScale] | None = None,
) -> Evaluation:
    """All metrics of the dataset's ``columns`` against ``predicted``: contig -> (bins, columns).

    Bins count that are valid, belong to the split and have finite predictions. Bins are compared
    as the targets are, genes as counts: a soft clip is undone on both sides before the sum.

    Args:
        predicted_scales: how to turn predictions into counts; None for the scale of the targets.
    """
    scales = _scales(dataset, columns)
    result = _empty(dataset, columns, settings, source)
    size = dataset.bin_size
    bins = BinMetrics(result.tracks, size, settings.pool_width)
    result.densities = [Density() for _ in result.conditions]
    collected: list[GeneValues] = []
    for contig in _contigs(dataset, settings.split):
        measured = dataset.targets(contig)[:, columns]
        values = predicted(contig)
        usable = _usable(dataset, contig, settings.split) & np.isfinite(values).all(axis=1)
        bins.add(measured, values, usable)
        for density, x, y in zip(
            result.densities,
            condition_values(measured[usable], result.conditions),
            condition_values(values[usable], result.conditions),
            strict=True,
        ):
            density.update(x, y)
        if settings.genes is not None:
            here = settings.genes.select(settings.genes.contigs == contig)
            kept = _kept(usable, size, here, result.window)
            sums = [
                _gene_sums(each, scale, usable, size, kept, result)
                for each, scale in ((measured, scales), (values, predicted_scales or scales))
            ]
            collected.append(GeneValues(kept, *sums))
    result.metrics += bins.metrics(source, settings.split)
    if settings.genes is not None:
        result.genes = _concatenate(settings.genes, collected, len(result.conditions))
        _gene_metrics(result)
    return result


def evaluate_ridge(
    dataset: PreparedDataset,
    settings: Settings,
    columns: Sequence[int] | None = None,
) -> Evaluation:
    """The 6-mer ridge on the same genes: trained on ``train``, its penalty chosen on ``valid``.

    Levels and differences are separate regressions.

    Raises:
        GexprError: no genes, or too few in the training or validation split.
    """
    if settings.genes is None:
        raise GexprError("the ridge needs genes")
    own = list(range(len(dataset.tracks))) if columns is None else columns
    result = _empty(dataset, own, settings, "ridge")
    parts = {
        split: _measured_genes(dataset, own, settings, split, result)
        for split in dict.fromkeys(("train", "valid", settings.split))
    }
    features = {split: kmer_counts(part.genes, dataset.sequence) for split, part in parts.items()}
    targets = {
        split: np.column_stack(
            [part.measured, *(difference_of(part.measured, d) for d in result.differences)]
        )
        for split, part in parts.items()
    }
    fit = ridge(
        features["train"], targets["train"], features["valid"], targets["valid"], features[settings.split]
    )
    count = len(result.conditions)
    result.genes = parts[settings.split]._replace(predicted=fit.predictions[:, :count])
    _gene_metrics(result, fit.predictions[:, count:])
    names = [c.name for c in result.conditions] + [d.name for d in result.differences]
    result.notes.append(_ridge_note(fit, names))
    if settings.split == "valid":
        result.notes.append("the ridge's penalty was chosen on the genes it is evaluated on here")
    if settings.split == "train":
        result.notes.append("the ridge is evaluated on the genes it was trained on here")
    return result


def _ridge_note(fit: RidgeFit, names: list[str]) -> str:
    chosen = ", ".join(
        f"{name} {penalty:g} (r {r:.3f})"
        for name, penalty, r in zip(names, fit.penalties, fit.validation, strict=True)
    )
    return f"ridge penalties, chosen on the validation genes: {chosen}"


def _empty(dataset: PreparedDataset, columns: Sequence[int], settings: Settings, source: str) -> Evaluation:
    conditions = conditions_of([dataset.tracks[i] for i in columns])
    differences = []
    notes = []
    if len(conditions) <= MAX_COMPARED:
        differences = [
            Difference(f"{conditions[b].name} - {conditions[a].name}", a, b)
            for a, b in combinations(range(len(conditions)), 2)
        ]
    else:
        notes.append(
            f"{len(conditions)} conditions are too many to compare every pair of (at most {MAX_COMPARED})"
        )
    plain = all(scale == CountScale() for scale in _scales(dataset, columns))
    return Evaluation(
        source,
        settings.split,
        conditions,
        differences,
        dataset.bin_size,
        "counts" if plain else "targets",
        settings.window,
        notes=notes,
        tracks=[dataset.tracks[i] for i in columns],
    )


def _contigs(dataset: PreparedDataset, split: str) -> tuple[str, ...]:
    contigs = dataset.contigs_of(split)
    if not contigs:
        raise InputError(
            f"no window belongs to the split {split!r}; it has: {', '.join(dataset.splits)}",
            path=dataset.path,
        )
    return contigs


def _usable(dataset: PreparedDataset, contig: str, split: str) -> NDArray[np.bool_]:
    usable: NDArray[np.bool_] = dataset.valid(contig) & (dataset.bin_splits(contig) == SPLITS.index(split))
    return usable


def _scales(dataset: PreparedDataset, columns: Sequence[int]) -> list[CountScale]:
    scales = count_scales(dataset)
    return [scales[i] for i in columns]


def _kept(usable: NDArray[np.bool_], bin_size: int, genes: Genes, window: PromoterWindow) -> Genes:
    """The genes of a contig of whose windows enough bases are usable."""
    starts, ends = genes.windows(window)
    covered = window_sums(usable[:, None].astype(np.float64), bin_size, starts, ends)[:, 0] * bin_size
    return genes.select(covered >= MIN_COVERED * window.width)


def _gene_sums(
    values: NDArray[np.floating],
    scales: list[CountScale],
    usable: NDArray[np.bool_],
    bin_size: int,
    genes: Genes,
    result: Evaluation,
) -> NDArray[np.float64]:
    """(genes, conditions) log(1 + counts) of genes of one contig, over usable bins."""
    counts = np.where(usable[:, None], restore_counts(values, scales), 0.0)
    sums = np.maximum(window_sums(counts, bin_size, *genes.windows(result.window)), 0.0)
    rows = np.arange(len(genes))
    by_condition = [sums[rows, gene_columns(condition, genes.minus)] for condition in result.conditions]
    return np.log1p(np.stack(by_condition, axis=1))


def _measured_genes(
    dataset: PreparedDataset, columns: Sequence[int], settings: Settings, split: str, result: Evaluation
) -> GeneValues:
    assert settings.genes is not None
    parts = []
    for contig in _contigs(dataset, split):
        usable = _usable(dataset, contig, split)
        here = settings.genes.select(settings.genes.contigs == contig)
        kept = _kept(usable, dataset.bin_size, here, result.window)
        values = dataset.targets(contig)[:, columns]
        sums = _gene_sums(values, _scales(dataset, columns), usable, dataset.bin_size, kept, result)
        parts.append(GeneValues(kept, sums, sums))
    return _concatenate(settings.genes, parts, len(result.conditions))


def _concatenate(genes: Genes, parts: list[GeneValues], conditions: int) -> GeneValues:
    if not parts:
        nothing = np.zeros((0, conditions))
        return GeneValues(genes.select(np.zeros(len(genes), dtype=bool)), nothing, nothing)
    joined = Genes(*(np.concatenate(column) for column in zip(*(part.genes for part in parts), strict=True)))
    return GeneValues(
        joined, np.concatenate([p.measured for p in parts]), np.concatenate([p.predicted for p in parts])
    )


def difference_of(values: NDArray[np.float64], pair: Difference) -> NDArray[np.float64]:
    """(genes,) of a pair from (genes, conditions) values."""
    result: NDArray[np.float64] = values[:, pair.b] - values[:, pair.a]
    return result


def _gene_metrics(result: Evaluation, differences: NDArray[np.float64] | None = None) -> None:
    """Rows of genes and differences; ``differences`` (genes, pairs) replace those of the predicted levels."""
    assert result.genes is not None
    measured, predicted = result.genes.measured, result.genes.predicted
    if differences is None:
        differences = np.zeros((len(predicted), len(result.differences)))
        for i, pair in enumerate(result.differences):
            differences[:, i] = difference_of(predicted, pair)
    result.predicted_differences = differences
    columns = [("gene", c.name, measured[:, i], predicted[:, i]) for i, c in enumerate(result.conditions)]
    columns += [
        ("difference", pair.name, difference_of(measured, pair), differences[:, i])
        for i, pair in enumerate(result.differences)
    ]
    for level, name, x, y in columns:
        for statistic, number in (("pearson", pearson(x, y)), ("r2", r_squared(x, y))):
            result.metrics.append(
                Metric(result.source, result.split, level, name, "log1p", statistic, number, len(x))
            )
