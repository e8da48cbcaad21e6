"""Whole evaluations of a small dataset, from Python and from the command line."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import torch
from click.testing import CliRunner

from gexpr import checkpoints
from gexpr.cli.main import main
from gexpr.datasets import PreparedDataset
from gexpr.errors import ConfigError, GexprError
from gexpr.evaluation import (
    Evaluation,
    PromoterWindow,
    Settings,
    compare,
    evaluate_model,
    evaluate_ridge,
    measured_vs_measured,
    read_genes,
    summary_lines,
)
from gexpr.models import registry
from gexpr.models.base import SequenceModel

Signal = dict[tuple[str, str, str], np.ndarray]
WINDOW = PromoterWindow(60, 25)


def _settings(dataset: PreparedDataset, folder: Path, **changes: object) -> Settings:
    genes, _ = read_genes(folder / "genes.bed", dataset.contigs)
    return Settings(genes=genes, window=WINDOW, pool_width=40)._replace(**changes)


def _model(dataset: PreparedDataset, num_downsamples: int = 3) -> SequenceModel:
    torch.manual_seed(0)
    settings = {
        "context_length": 512,
        "target_length": 16,
        "heads": {"tracks": len(dataset.tracks)},
        "channels": 24,
        "num_downsamples": num_downsamples,
        "divisible_by": 4,
        "depth": 1,
        "attention_heads": 2,
        "key_size": 8,
        "block_size": 4,
        "random_blocks": 1,
    }
    model = registry.build("sparse_enformer", settings)
    model.tracks = list(dataset.tracks)
    return model.eval()


def test_a_perfect_prediction_has_r_and_r2_of_one(plain: PreparedDataset, prepared_folder: Path) -> None:
    result = measured_vs_measured(plain, plain, _settings(plain, prepared_folder))
    assert {row.level for row in result.metrics} == {"bin", "bin40", "gene", "difference"}
    assert [row.value for row in result.metrics] == pytest.approx([1.0] * len(result.metrics))
    assert {row.n for row in result.metrics if row.level == "bin"} == {138}


def _promoter_counts(signal: Signal, condition: str, result: Evaluation) -> np.ndarray:
    assert result.genes is not None
    genes, sums = result.genes.genes, []
    for i in range(len(genes)):
        start, end, strand = int(genes.starts[i]), int(genes.ends[i]), "-" if genes.minus[i] else "+"
        low, high = (end - 25, end + 60) if strand == "-" else (start - 60, start + 25)
        # Whole bins count by the share of them that the window covers.
        bases = signal[condition, str(genes.contigs[i]), strand]
        spread = np.repeat(bases[: len(bases) // 8 * 8].reshape(-1, 8).mean(axis=1), 8)
        sums.append(spread[max(low, 0) : high].sum())
    return np.log1p(sums)


@pytest.mark.parametrize("name", ["plain", "clipped"])
def test_genes_are_judged_by_counts_of_their_strand(name: str, prepared_folder: Path, signal: Signal) -> None:
    dataset = PreparedDataset(prepared_folder / f"{name}.h5")
    result = measured_vs_measured(dataset, dataset, _settings(dataset, prepared_folder))
    assert [condition.name for condition in result.conditions] == ["wt", "heat"]
    assert result.genes is not None
    assert set(result.genes.genes.contigs) == {"chrC"}
    for column, condition in enumerate(("wt", "heat")):
        expected = _promoter_counts(signal, condition, result)
        np.testing.assert_allclose(result.genes.measured[:, column], expected, atol=1e-4)


def test_every_number_against_scipy(plain: PreparedDataset, prepared_folder: Path, signal: Signal) -> None:
    generator = np.random.default_rng(8)
    noisy = {
        c: np.abs(plain.targets(c) + generator.normal(0, 3, plain.targets(c).shape)) for c in plain.contigs
    }
    settings = _settings(plain, prepared_folder)
    result = compare(plain, [0, 1, 2, 3], lambda contig: noisy[contig], settings, "model")
    measured, predicted = plain.targets("chrC"), noisy["chrC"]
    for i, track in enumerate(plain.tracks):
        for transform, change in (("raw", np.asarray), ("log1p", np.log1p)):
            x, y = change(measured[:, i]), change(predicted[:, i])
            assert result.value("bin", track.id, transform) == pytest.approx(
                scipy.stats.pearsonr(x, y).statistic
            )
            expected = 1 - np.square(x - y).sum() / np.square(x - x.mean()).sum()
            assert result.value("bin", track.id, transform, "r2") == pytest.approx(expected)
    wide = [each[:135].reshape(27, 5, 4).sum(axis=1)[:, 2] for each in (measured, predicted)]
    assert result.value("bin40", "heat+", "raw") == pytest.approx(scipy.stats.pearsonr(*wide).statistic)
    assert result.genes is not None
    x, y = result.genes.measured, result.genes.predicted
    assert result.value("gene", "heat") == pytest.approx(scipy.stats.pearsonr(x[:, 1], y[:, 1]).statistic)
    difference = scipy.stats.pearsonr(x[:, 1] - x[:, 0], y[:, 1] - y[:, 0]).statistic
    assert result.value("difference", "heat - wt") == pytest.approx(difference)
    assert [int(density.counts.sum()) for density in result.densities] == [2 * 138, 2 * 138]


def test_bins_without_a_prediction_do_not_count(plain: PreparedDataset) -> None:
    def predicted(contig: str) -> np.ndarray:
        values = plain.targets(contig).copy()
        values[10:30] = np.nan
        return values

    result = compare(plain, [0], lambda c: predicted(c)[:, :1], Settings(pool_width=40), "model")
    assert {(row.level, row.n) for row in result.metrics} == {("bin", 118), ("bin40", 23)}


def test_replicates_are_matched_by_id_and_must_fit(plain: PreparedDataset, clipped: PreparedDataset) -> None:
    result = measured_vs_measured(plain, clipped, Settings(pool_width=None))
    assert result.value("bin", "wt+", "raw") < 1.0
    clipped.bin_size = 16
    with pytest.raises(ConfigError, match="prepare both alike"):
        measured_vs_measured(plain, clipped, Settings())


def test_soft_clip_is_undone_for_each_replicate_by_its_own(
    plain: PreparedDataset, clipped: PreparedDataset, prepared_folder: Path
) -> None:
    result = measured_vs_measured(plain, clipped, _settings(plain, prepared_folder))
    assert result.value("gene", "wt", statistic="r2") == pytest.approx(1.0, abs=1e-6)
    assert result.value("gene", "heat", statistic="r2") == pytest.approx(1.0, abs=1e-6)


def test_ridge_predicts_other_genes_than_it_learned(plain: PreparedDataset, prepared_folder: Path) -> None:
    result = evaluate_ridge(plain, _settings(plain, prepared_folder))
    assert {row.level for row in result.metrics} == {"gene", "difference"}
    assert result.genes is not None
    assert set(result.genes.genes.contigs) == {"chrC"}
    # Random sequence and random counts: nothing to learn.
    assert abs(result.value("gene", "wt")) < 0.7
    with pytest.raises(GexprError, match="needs genes"):
        evaluate_ridge(plain, Settings())


def test_bins_must_agree(plain: PreparedDataset) -> None:
    with pytest.raises(ConfigError, match="multiple of 8"):
        measured_vs_measured(plain, plain, Settings(pool_width=20))
    with pytest.raises(ConfigError, match="bins of 16 bp"):
        evaluate_model(plain, _model(plain, num_downsamples=4), Settings())


def _table(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as handle:
        return list(csv.DictReader(handle, delimiter="\t"))


def test_command_writes_tables_and_pictures(
    prepared_folder: Path, plain: PreparedDataset, tmp_path: Path
) -> None:
    model = _model(plain)
    checkpoints.save(tmp_path / "checkpoint", model, plain.tracks, {}, "card")
    data = str(prepared_folder / "plain.h5")
    arguments = ["evaluate", "-q", "-c", str(tmp_path / "checkpoint"), "-d", data, "--pool-width", "40"]
    arguments += ["-g", str(prepared_folder / "genes.bed"), "--promoter-window", "60,25", "--device", "cpu"]
    arguments += ["--replicates", f"{data},{prepared_folder / 'clipped.h5'}", "-o", str(tmp_path / "out")]
    ran = CliRunner().invoke(main, arguments)
    assert ran.exit_code == 0, ran.output
    expected = evaluate_model(plain, model, _settings(plain, prepared_folder))
    rows = _table(tmp_path / "out" / "metrics.tsv")
    assert list(rows[0]) == ["source", "split", "level", "name", "transform", "statistic", "value", "n"]
    assert {row["source"] for row in rows} == {"model", "ridge", "replicates"}
    written = [float(row["value"]) for row in rows if row["source"] == "model"]
    assert written == pytest.approx([row.value for row in expected.metrics], rel=1e-5, nan_ok=True)
    assert expected.genes is not None
    genes = [row for row in _table(tmp_path / "out" / "genes.tsv") if row["source"] == "model"]
    assert len(genes) == 2 * len(expected.genes.genes)
    assert {row["strand"] for row in genes} == {"+", "-"}
    assert float(genes[1]["predicted"]) == pytest.approx(expected.genes.predicted[0, 1], rel=1e-5)
    for picture in ("model_wt", "model_heat", "model_difference_heat_wt", "ridge_wt", "replicates_heat"):
        assert (tmp_path / "out" / f"{picture}.png").read_bytes().startswith(b"\x89PNG")
    assert "level" in ran.output
    for line in summary_lines([expected]):
        assert line.split("  ")[0] in ran.output
    again = CliRunner().invoke(main, arguments)
    assert again.exit_code == 1 and "metrics.tsv exists; give --force" in again.stderr


def test_command_refuses_wrong_usage(prepared_folder: Path, tmp_path: Path) -> None:
    base = ["evaluate", "-d", str(prepared_folder / "plain.h5"), "-o", str(tmp_path / "out")]
    nothing = CliRunner().invoke(main, base)
    assert nothing.exit_code == 2
    assert "nothing to evaluate" in nothing.output
    for extra, message in (
        (["--replicates", "one.h5"], "two datasets"),
        (["-g", str(prepared_folder / "genes.bed"), "--promoter-window", "3"], "UP,DOWN"),
        (["-c", "no-such-checkpoint"], "no-such-checkpoint"),
    ):
        ran = CliRunner().invoke(main, base + extra)
        assert ran.exit_code in (1, 2), ran.output
        assert message in ran.output
    assert not (tmp_path / "out").exists()


def test_models_tracks_are_matched_by_id(plain: PreparedDataset) -> None:
    model = _model(plain)
    straight = evaluate_model(plain, model, Settings(pool_width=None))
    # The same outputs under a permuted track list: what was wt is called heat.
    model.tracks = [
        track._replace(id=plain.tracks[(i + 2) % 4].id, label=plain.tracks[(i + 2) % 4].label)
        for i, track in enumerate(plain.tracks)
    ]
    swapped = evaluate_model(plain, model, Settings(pool_width=None))
    assert swapped.value("bin", "wt+") != pytest.approx(straight.value("bin", "wt+"))
    model.tracks = [track._replace(id=f"other{track.index}") for track in plain.tracks]
    with pytest.raises(ConfigError, match="no track id in common"):
        evaluate_model(plain, model, Settings(pool_width=None))
