"""Scatter pictures: what is drawn, and in which formats."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from gexpr.errors import ConfigError
from gexpr.evaluation import Density, Evaluation, Genes, GeneValues, Metric, PromoterWindow
from gexpr.evaluation.conditions import Condition
from gexpr.evaluation.evaluate import Difference
from gexpr.report import scatter
from gexpr.results import Track


def _evaluation(genes: int = 40, names: tuple[str, str] = ("wild type", "heat")) -> Evaluation:
    generator = np.random.default_rng(1)
    numbers = np.arange(genes)
    table = Genes(
        numbers.astype(str), np.array(["c"] * genes), numbers * 100, numbers * 100 + 90, numbers % 2 == 0
    )
    values = GeneValues(table, generator.gamma(2, 1, (genes, 2)), generator.gamma(2, 1, (genes, 2)))
    densities = [Density(), Density()]
    for density in densities:
        density.update(generator.gamma(0.3, 9, 1000), generator.gamma(0.3, 9, 1000))
    conditions = [Condition(name, 2 * i, 2 * i + 1) for i, name in enumerate(names)]
    pair = Difference(f"{names[1]} - {names[0]}", 0, 1)
    rows = [Metric("model", "test", "gene", name, "log1p", "pearson", 0.5, genes) for name in names]
    rows.append(Metric("model", "test", "difference", pair.name, "log1p", "pearson", float("nan"), genes))
    return Evaluation(
        "model",
        "test",
        conditions,
        [pair],
        16,
        "counts",
        PromoterWindow(300, 50),
        rows,
        values,
        generator.normal(size=(genes, 1)),
        densities,
    )


def _text(svg: Path) -> str:
    return " ".join(
        "".join(element.itertext()) for element in ElementTree.parse(svg).iter() if "text" in element.tag
    )


def test_density_counts_every_value() -> None:
    density = Density()
    density.update(np.array([0.0, 9.0, 1e9]), np.array([0.0, 99.0, 0.5]))
    assert density.counts.sum() == 3
    cells = density.CELLS / density.LIMIT
    assert density.counts[0, 0] == 1
    assert density.counts[int(cells), int(2 * cells)] == 1
    assert density.counts[-1, int(np.log10(1.5) * cells)] == 1


def test_labels_name_units_and_numbers(tmp_path: Path) -> None:
    text = _text(scatter.condition_scatter(_evaluation(), 0, tmp_path / "a.svg"))
    for part in (
        "wild type",
        "40 genes, r = 0.500",
        "measured counts, ATG −300 to +50 bp",
        "1,000 bins of 16 bp",
    ):
        assert part in text
    assert "predicted counts in 16 bp" in text
    text = _text(scatter.difference_scatter(_evaluation(), 0, tmp_path / "b.svg"))
    assert "heat - wild type" in text
    assert "r = undefined" in text
    assert "predicted difference of ln(1 + counts)" in text


def test_assays_show_values_and_the_spread_of_correlations(tmp_path: Path) -> None:
    evaluation = _evaluation()
    evaluation.conditions, evaluation.differences, evaluation.densities = [], [], []
    evaluation.genes = None
    evaluation.tracks = [Track(i, f"t{i}", f"t{i}", assay) for i, assay in enumerate(("CAGE", "CAGE", "RNA"))]
    for i, r in enumerate((-0.3, 0.5, float("nan"))):
        evaluation.metrics += [
            Metric("model", "test", "bin", f"t{i}", name, "pearson", r, 9) for name in ("raw", "log1p")
        ]
    density = Density()
    density.update(np.arange(70.0), np.arange(70.0))
    evaluation.assay_densities = {"CAGE": density, "RNA": Density()}
    paths = scatter.draw_all(evaluation, tmp_path, ".svg")
    assert [path.name for path in paths] == ["model_assay_CAGE.svg", "model_assay_RNA.svg"]
    text = _text(paths[0])
    for part in (
        "CAGE",
        "70 values, bins of 16 bp",
        "2 tracks",
        "raw, median 0.100",
        "Pearson's r over bins",
    ):
        assert part in text
    # A constant track has no correlation, and no value was collected.
    assert "1 track" in _text(paths[1]) and "1 tracks" not in _text(paths[1])
    assert "median" not in _text(paths[1])


def test_replicates_are_not_called_predictions(tmp_path: Path) -> None:
    evaluation = _evaluation()
    evaluation.source = "replicates"
    text = _text(scatter.condition_scatter(evaluation, 1, tmp_path / "a.svg"))
    assert "predicted" not in text
    assert "second counts" in text


def test_equal_results_give_equal_pictures(tmp_path: Path) -> None:
    first, second = (
        scatter.condition_scatter(_evaluation(), 0, tmp_path / name) for name in ("a.svg", "b.svg")
    )
    assert first.read_bytes() == second.read_bytes()


def test_all_pictures_have_names_of_their_own(tmp_path: Path) -> None:
    paths = scatter.draw_all(_evaluation(names=("wt+", "WT-")), tmp_path, ".png")
    assert [path.name for path in paths] == ["model_wt.png", "model_WT_2.png", "model_difference_WT_wt.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)


def test_only_what_there_is_gets_drawn(tmp_path: Path) -> None:
    evaluation = _evaluation()
    evaluation.genes = None
    assert len(scatter.draw_all(evaluation, tmp_path)) == 2
    with pytest.raises(ConfigError, match="no genes"):
        scatter.difference_scatter(evaluation, 0, tmp_path / "x.png")
    evaluation.densities = []
    with pytest.raises(ConfigError, match="neither genes nor bins"):
        scatter.condition_scatter(evaluation, 0, tmp_path / "x.png")


def test_unknown_suffix(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\.bmp"):
        scatter.condition_scatter(_evaluation(), 0, tmp_path / "a.bmp")


def test_many_pictures_are_cut_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(scatter, "MAX_PICTURES", 2)
    assert len(scatter.draw_all(_evaluation(), tmp_path)) == 2
    assert "first 2 of 3 pictures" in capsys.readouterr().err
