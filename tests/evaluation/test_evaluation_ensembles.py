"""Ensembles on held-out data: the metrics of averaged predictions."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from toy_models import BaseCounts

from gexpr import checkpoints
from gexpr.cli.main import main
from gexpr.datasets import PreparedDataset
from gexpr.errors import ConfigError
from gexpr.evaluation import Settings, evaluate_model, evaluate_windows
from gexpr.evaluation.predict import members_of
from gexpr.models import registry
from gexpr.models.base import SequenceModel


class Mean(SequenceModel):
    """A model whose predictions are the mean of others'."""

    def __init__(self, models: list[SequenceModel]) -> None:
        super().__init__(models[0].config)
        self.models = torch.nn.ModuleList(models)
        self.tracks = models[0].tracks

    def forward(self, x: torch.Tensor, head: str | None = None) -> torch.Tensor:
        return torch.stack([model(x, head) for model in self.models]).mean(0)


def draw(dataset: PreparedDataset, context_length: int, target_length: int, seed: int) -> SequenceModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        settings = dict(
            context_length=context_length,
            target_length=target_length,
            heads={"tracks": len(dataset.tracks)},
            stem_channels=8,
            num_downsamples=3,
            tower_start=8,
            dilated_layers=1,
            dilated_channels=4,
            final_channels=8,
        )
        model = registry.build("basenji", settings)
        for parameter in model.parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=2 * parameter[0].numel() ** -0.5)
    model.tracks = list(dataset.tracks)
    return model.eval()


@pytest.mark.parametrize("rc", [False, True], ids=["one strand", "both strands"])
@pytest.mark.parametrize("windowed", [False, True], ids=["contigs", "windows"])
def test_metrics_are_those_of_the_averaged_predictions(
    windowed: bool, rc: bool, plain: PreparedDataset
) -> None:
    evaluate = evaluate_windows if windowed else evaluate_model
    geometry = (plain.context_length, plain.target_length) if windowed else (256, 16)
    models = [draw(plain, *geometry, seed) for seed in (1, 2)]
    settings = Settings(pool_width=None)

    def values(found: SequenceModel | list[SequenceModel]) -> list[float]:
        return [row.value for row in evaluate(plain, found, settings, reverse_complement=rc).metrics]

    both, expected, alone = values(models), values(Mean(models)), values(models[0])
    assert both == pytest.approx(expected, rel=1e-4, abs=1e-6) and len(both) > 4
    assert both != pytest.approx(alone, rel=1e-3)
    assert values(models[:1]) == alone


def test_members_must_be_in_one_scale() -> None:
    other = BaseCounts()
    other.tracks[3] = other.tracks[3]._replace(scale=2.0)
    with pytest.raises(
        ConfigError, match=r"model 1 and model 2 are no ensemble: the scale of track 3 is 1\.0 in"
    ):
        members_of([BaseCounts(), other])
    one = BaseCounts()
    assert members_of(one) == [one]


def test_at_the_command_line(plain: PreparedDataset, tmp_path: Path) -> None:
    models = [draw(plain, 256, 16, seed) for seed in (1, 2)]
    for name, model in zip("ab", models, strict=True):
        checkpoints.save(tmp_path / name, model, model.tracks, {}, "card")
    members = f"{tmp_path / 'a'},{tmp_path / 'b'}"
    rest = ["-d", str(plain.path), "--device", "cpu", "--threads", "1", "--pictures", "none"]
    result = CliRunner().invoke(main, ["evaluate", "-c", members, *rest, "-o", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    with open(tmp_path / "out" / "metrics.tsv") as file:
        found = {
            (row["level"], row["name"], row["transform"], row["statistic"]): float(row["value"])
            for row in csv.DictReader(file, delimiter="\t")
        }
    expected = evaluate_model(plain, Mean(models), Settings())
    assert found == pytest.approx(
        {(row.level, row.name, row.transform, row.statistic): row.value for row in expected.metrics}, rel=1e-3
    )
    tracks = [track._replace(scale=2.0) for track in models[1].tracks]
    checkpoints.save(tmp_path / "c", models[1], tracks, {}, "card")
    members = f"{tmp_path / 'a'},{tmp_path / 'c'}"
    result = CliRunner().invoke(main, ["evaluate", "-c", members, *rest, "-o", str(tmp_path / "no")])
    assert result.exit_code == 1 and "the scale of track 0 is 1.0 in one and 2.0" in str(result.output)
