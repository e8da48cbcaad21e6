"""Sources and their settings: what each takes, and what its model card says of the license."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from keras_writer import BORZOI_PARAMS, drawn_borzoi, write_borzoi, write_params

from gexpr import checkpoints
from gexpr.cli.convert import command
from gexpr.conversion import convert as module
from gexpr.conversion.convert import SOURCES, convert
from gexpr.conversion.kinds import KINDS
from gexpr.errors import ConfigError

OPTIONS: dict[str, Any] = {
    "context_length": 512,
    "target_length": 4,
    "gamma_normalization": "features",
    "sparse": {"block_size": 4},
    "params": "params.json",
    "squash": "power",
    "gelu": "tanh",
}


def test_every_source_is_described_and_can_be_opened() -> None:
    assert set(KINDS) == set(SOURCES) == set(module._FIND)
    assert set().union(*(kind.options for kind in KINDS.values())) == set(OPTIONS)
    for name, kind in KINDS.items():
        if name == "gexpr":
            continue
        # Either the pages that name a license, or the page that does not.
        assert ("huggingface.co" in kind.license) != ("not stated" in kind.license), name
        assert "check with their source" in kind.license and "Cite " in kind.license


@pytest.mark.parametrize(
    ("kind", "option"),
    [(kind, name) for kind, name in itertools.product(KINDS, OPTIONS) if name not in KINDS[kind].options],
)
def test_settings_that_mean_nothing_for_a_source_are_refused(kind: str, option: str, tmp_path: Path) -> None:
    value = OPTIONS[option]
    with pytest.raises(ConfigError, match=f"{kind} does not take {option}"):
        convert(kind, tmp_path / "w", tmp_path / "out", **{option: value})
    named = "attention" if option == "sparse" else option.replace("_", "-")
    given = "bigbird" if option == "sparse" else str(value)
    arguments = [kind, str(tmp_path / "w"), "-o", str(tmp_path / "out"), f"--{named}", given]
    ran = CliRunner().invoke(command, arguments)
    assert ran.exit_code == 2 and f"--{named}" in ran.stderr and f"is not for {kind}, but for" in ran.stderr
    for other in KINDS:
        assert (f" {other}" in ran.stderr.partition("but for")[2]) == (option in KINDS[other].options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"squash": "square"}, "squash is 'square'; it must be one of: shifted, power"),
        ({"gelu": "erf"}, "gelu is 'erf'; it must be one of: sigmoid, tanh"),
        ({"license": " \n"}, "the license is empty"),
    ],
)
def test_values_that_are_not_allowed(options: dict[str, str], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        convert("baskerville", tmp_path / "w", tmp_path / "out", **options)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="unknown source 'keras'; known are: basenji2, baskerville, "):
        convert("keras", tmp_path / "w", tmp_path / "out")


def test_the_command_makes_a_checkpoint_of_keras_weights_with_its_card(tmp_path: Path) -> None:
    torch.manual_seed(1)
    model = drawn_borzoi({"human": 5})
    write_borzoi(tmp_path / "model0_best.h5", model)
    params = write_params(BORZOI_PARAMS, tmp_path)
    common = ["baskerville", str(tmp_path / "model0_best.h5"), "--params", str(params)]

    def card(folder: str, *options: str) -> str:
        ran = CliRunner().invoke(command, [*common, "-o", str(tmp_path / folder), *options])
        assert ran.exit_code == 0, ran.output
        assert f"{len(model.state_dict()) - 8:,} tensors, " in ran.stderr
        return (tmp_path / folder / "README.md").read_text()

    text = card("a", "--squash", "power", "--gelu", "sigmoid")
    assert text.startswith(
        "# model0_best.h5, converted\n\nMade by `gexpr convert baskerville` from `model0_best.h5`"
    )
    assert "- 256 bp in, 48 bins of 4 bp out.\n- Heads: human (5 tracks).\n" in text
    assert "are undone as power (gexpr convert --squash)" in text
    assert "- GELU: the sigmoid approximation.\n" in text
    assert f"- License of the weights: {KINDS['baskerville'].license}.\n" in text
    assert "calico/borzoi" in text and "Linder" in text
    assert checkpoints.describe(tmp_path / "a").settings["activation"] == "sigmoid"

    text = card("b", "--license", "Apache-2.0,\nas its LICENSE says")
    assert "- License of the weights: Apache-2.0, as its LICENSE says.\n" in text
    assert "calico" not in text and "- GELU: the tanh approximation.\n" in text
    assert "are undone as shifted" in text
    assert checkpoints.describe(tmp_path / "b").settings["activation"] == "tanh"
