"""Basenji2 from Keras weights, against a plain computation in float64 on the arrays as Keras has them."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from keras_writer import KerasFile
from keras_writer import write_params as written
from numpy.typing import NDArray

from gexpr import checkpoints
from gexpr.conversion import basenji, keras
from gexpr.conversion.convert import convert
from gexpr.errors import CheckpointError, ConfigError
from gexpr.models.base import on_meta_device, parameter_count
from gexpr.models.basenji import Basenji, BasenjiConfig

Array = NDArray[Any]

TRUNK: list[dict[str, Any]] = [
    {"name": "conv_block", "filters": 288, "kernel_size": 15, "pool_size": 2},
    {
        "name": "conv_tower",
        "filters_init": 339,
        "filters_mult": 1.1776,
        "kernel_size": 5,
        "pool_size": 2,
        "repeat": 6,
    },
    {
        "name": "dilated_residual",
        "filters": 384,
        "rate_mult": 1.5,
        "repeat": 11,
        "dropout": 0.3,
        "round": True,
    },
    {"name": "Cropping1D", "cropping": 64},
    {"name": "conv_block", "filters": 1536, "dropout": 0.05},
]
HUMAN: dict[str, Any] = {
    "seq_length": 131072,
    "target_length": 1024,
    "activation": "gelu",
    "batch_norm": True,
    "bn_momentum": 0.9,
    "trunk": TRUNK,
    "head_human": {"name": "dense", "units": 5313, "activation": "softplus"},
}
"""manuscripts/cross2020/params_human.json of calico/basenji."""
MOUSE: dict[str, Any] = {
    **{name: value for name, value in HUMAN.items() if name not in ("batch_norm", "head_human")},
    "norm_type": "batch",
    "head_mouse": {"name": "final", "units": 1643, "activation": "softplus"},
}
"""params_mouse.json beside it."""

SMALL: dict[str, Any] = {
    **MOUSE,
    "seq_length": 768,
    "trunk": [
        {"name": "conv_block", "filters": 6, "kernel_size": 5, "pool_size": 2},
        {**TRUNK[1], "filters_init": 7, "filters_mult": 1.3, "kernel_size": 3, "repeat": 3},
        {**TRUNK[2], "filters": 5, "repeat": 6},
        {"name": "Cropping1D", "cropping": 4},
        {"name": "conv_block", "filters": 10, "dropout": 0.05},
    ],
    "head_human": {"name": "final", "units": 4, "activation": "softplus"},
    "head_mouse": {"name": "final", "units": 3, "activation": "softplus"},
}
WIDTHS = (6, 7, 9, 12)
DILATIONS = (1, 2, 3, 4, 6, 9)


class Plain:
    """The published computation on Keras's arrays; every layer is drawn, written down and applied."""

    def __init__(self, form: str = "sigmoid", first: dict[str, int] | None = None) -> None:
        self.draw = np.random.default_rng(5)
        self.file = KerasFile(first)
        self.form = form

    def gelu(self, x: Array) -> Array:
        if self.form == "sigmoid":
            return x / (1 + np.exp(-1.702 * x))
        return x * 0.5 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))

    def weights(self, *shape: int) -> Array:
        return self.draw.normal(size=shape, scale=np.prod(shape[:-1]) ** -0.5).astype(np.float32)

    def block(self, x: Array, filters: int, width: int = 1, dilation: int = 1, pool: bool = False) -> Array:
        """(L, channels): GELU, convolution, normalization, pooling."""
        kernel = self.weights(width, x.shape[1], filters)
        self.file.add("conv1d", kernel=kernel)
        x = self.gelu(x)
        reach = dilation * (width // 2)
        padded = np.pad(x, ((reach, reach), (0, 0)))
        x = sum(padded[k * dilation : k * dilation + len(x)] @ kernel[k].astype(float) for k in range(width))  # type: ignore[assignment]
        gamma, beta, mean, variance = (
            self.draw.uniform(low, high, filters).astype(np.float32)
            for low, high in ((0.5, 1.5), (-0.5, 0.5), (-0.2, 0.2), (0.001, 2))
        )
        self.file.add(
            "batch_normalization", gamma=gamma, beta=beta, moving_mean=mean, moving_variance=variance
        )
        x = gamma * (x - mean) / np.sqrt(variance.astype(float) + 1e-3) + beta
        return np.maximum(x[0::2], x[1::2]) if pool else x

    def trunk(self, x: Array) -> Array:
        x = self.block(x, WIDTHS[0], 5, pool=True)
        for width in WIDTHS[1:]:
            x = self.block(x, width, 3, pool=True)
        for dilation in DILATIONS:
            x = x + self.block(self.block(x, 5, 3, dilation), WIDTHS[-1])
        return self.gelu(self.block(x[4:-4], 10))

    def head(self, x: Array, tracks: int) -> Array:
        kernel, bias = self.weights(10, tracks), self.weights(1, tracks)[0]
        self.file.add("dense", kernel=kernel, bias=bias)
        return np.logaddexp(0, x @ kernel.astype(float) + bias)


def sequence() -> Array:
    """One-hot, with an unknown base."""
    codes = np.random.default_rng(1).integers(0, 4, 768)
    x = np.eye(4)[codes]
    x[100] = 0
    return x


def predicted(folder: Path, head: str | None = None) -> Array:
    with torch.inference_mode():
        return checkpoints.load(folder)(torch.from_numpy(sequence()[None]).float(), head)[0].numpy()


@pytest.mark.parametrize("form", [None, "sigmoid", "tanh"])
def test_predictions_are_those_of_a_plain_computation(form: str | None, tmp_path: Path) -> None:
    plain = Plain(form or "sigmoid")
    expected = plain.head(plain.trunk(sequence()), 4)
    path = plain.file.save(tmp_path / "model.h5")
    done = convert("basenji2", path, tmp_path / "out", params=written(SMALL, tmp_path), gelu=form)
    found = predicted(done.folder)
    assert found.shape == expected.shape == (40, 4)
    assert np.abs(found - expected).max() < 1e-5 * expected.max()
    assert expected.std(axis=0).max() > 0.1
    info = checkpoints.describe(done.folder)
    assert info.architecture == "basenji" and info.settings["activation"] == plain.form
    assert done.tensors == 5 * (2 * 6 + 5) + 2 and not done.dropped
    card = (done.folder / "README.md").read_text()
    assert f"GELU: the {plain.form} approximation" in card
    assert (
        "License of the weights: not stated for Basenji2's weights by manuscripts/cross2020/README.md" in card
    )


def test_the_forms_of_gelu_differ_by_more_than_the_conversion_does() -> None:
    sigmoid, tanh = (Plain(form).trunk(sequence()) for form in ("sigmoid", "tanh"))
    assert np.abs(sigmoid - tanh).max() > 1e-3


@pytest.mark.parametrize(
    ("units", "number", "expected"),
    [
        ((4, 3), 0, "human"),
        ((4, 3), 7, "human"),
        ((3, 4), 7, "mouse"),
        ((4, 4), 0, "human"),
        ((4, 4), 1, "mouse"),
    ],
)
def test_the_head_of_a_file_is_told_by_its_tracks_or_else_by_its_number(
    units: tuple[int, int], number: int, expected: str, tmp_path: Path
) -> None:
    """The program saves the first head as model0.h5 and the second as model1.h5."""
    plain = Plain(first={"dense": number})
    plain.head(plain.trunk(sequence()), 4)
    params = copy.deepcopy(SMALL)
    params["head_human"]["units"], params["head_mouse"]["units"] = units
    path = plain.file.save(tmp_path / "model.h5")
    done = convert("basenji2", path, tmp_path / "out", params=written(params, tmp_path))
    assert checkpoints.describe(done.folder).settings["heads"] == {expected: 4}


def test_several_heads_in_one_file(tmp_path: Path) -> None:
    """They are made in the order of their names, whatever that in the parameter file."""
    plain = Plain()
    trunk = plain.trunk(sequence())
    expected = {"human": plain.head(trunk, 4), "mouse": plain.head(trunk, 4)}
    params = {**SMALL, "head_human": None, "head_mouse": None}
    del params["head_human"], params["head_mouse"]
    for name in ("head_mouse", "head_human"):
        params[name] = {"name": "final", "units": 4, "activation": "softplus"}
    path = plain.file.save(tmp_path / "model.h5")
    done = convert("basenji2", path, tmp_path / "out", params=written(params, tmp_path))
    for name, value in expected.items():
        assert np.abs(predicted(done.folder, name) - value).max() < 1e-5 * value.max()


def test_heads_are_made_in_natural_order() -> None:
    head = {"name": "final", "units": 1, "activation": "softplus"}
    found = keras.heads({"head10": head, "head2": head, "head_a": [head]}, "params")
    assert list(found) == ["2", "10", "a"]


def test_a_head_that_cannot_be_told(tmp_path: Path) -> None:
    plain = Plain(first={"dense": 5})
    plain.head(plain.trunk(sequence()), 4)
    path = plain.file.save(tmp_path / "model.h5")

    def refused(human: int, mouse: int, message: str) -> None:
        params = copy.deepcopy(SMALL)
        params["head_human"]["units"], params["head_mouse"]["units"] = human, mouse
        with pytest.raises(CheckpointError, match=message):
            convert("basenji2", path, tmp_path / "out", params=written(params, tmp_path))

    refused(7, 9, r"its heads have 4 tracks, and which .* cannot be told: human \(7\), mouse \(9\)")
    refused(4, 4, r"its heads have 4 tracks, and which .* cannot be told: human \(4\), mouse \(4\)")


@pytest.mark.parametrize(
    ("params", "parameters"), [(HUMAN, 30_088_228), (MOUSE, 24_447_438)], ids=["human", "mouse"]
)
def test_the_published_parameter_files(params: dict[str, Any], parameters: int) -> None:
    config = BasenjiConfig.from_dict(basenji.settings(params, "params.json"))
    published = BasenjiConfig(heads=config.heads)
    assert config.tower_widths == published.tower_widths and config.dilations == published.dilations
    both = [{**each.to_dict(), "tower_channels": None} for each in (config, published)]
    assert both[0] == both[1]
    assert parameter_count(on_meta_device(Basenji, config)) == parameters


def changed(block: int, **options: Any) -> dict[str, Any]:
    params = copy.deepcopy(HUMAN)
    params["trunk"][block].update(options)
    return params


def trunk(*numbers: int) -> dict[str, Any]:
    return {**HUMAN, "trunk": [TRUNK[number] for number in numbers]}


@pytest.mark.parametrize(
    ("params", "message"),
    [
        (
            changed(0, name="conv_dna"),
            r"trunk block 0 \(conv_dna\) is not a block of gexpr's Basenji; it has: ",
        ),
        (changed(2, name="dilated_dense"), r"trunk block 2 \(dilated_dense\) is not a block"),
        (changed(0, mystery=1), r"block 0 \(conv_block\): option 'mystery' \(1\) is not supported"),
        (changed(0, pool_size=4), r"block 0 \(conv_block\): pool_size 4 is not supported, only 2"),
        (changed(0, pool_type="softmax"), "option 'pool_type' .'softmax'. is not supported"),
        (changed(1, norm_type=None), r"block 1 \(conv_tower\): norm_type None is not supported"),
        (changed(1, activation="relu"), r"block 1 \(conv_tower\): activation 'relu' is not supported"),
        (changed(1, repeat=0), "repeat is 0; it must be a whole number above 0"),
        (changed(1, filters_mult=None), "has neither filters_mult nor filters_end"),
        (changed(1, residual=True), r"option 'residual' \(True\) is not supported"),
        (changed(2, kernel_size=5), r"block 2 \(dilated_residual\): kernel_size 5 is not supported, only 3"),
        (changed(2, round=False), "round False with rate_mult 1.5 is not supported, only true"),
        (changed(2, conv_type="separable"), "option 'conv_type' .'separable'. is not supported"),
        (changed(3, cropping=[1, 2]), "is not the same number on both sides"),
        (changed(4, kernel_size=3), r"block 4 \(conv_block\): kernel_size 3 is not supported, only 1"),
        (trunk(0, 1, 2), "no trunk of conv_block, conv_tower, dilated_residual in this order"),
        (trunk(1, 0, 2, 3, 4), "no trunk of conv_tower, conv_block, .* in this order"),
        (trunk(0, 1, 2, 4, 3), "no trunk of .*, conv_block, Cropping1D in this order"),
        ({**HUMAN, "activation": "relu"}, "activation 'relu' is not supported, only gelu"),
        ({**HUMAN, "batch_norm": False}, "norm_type None is not supported, only batch"),
        ({**HUMAN, "padding": "valid"}, "model.padding .'valid'. is not supported"),
        ({**HUMAN, "seq_length": "x"}, "model.seq_length is 'x', not a number of bases"),
        ({**HUMAN, "trunk": [1]}, "trunk block 0 is 1, not a table of options"),
        ({**HUMAN, "head_human": {"name": "dense"}}, "head_human is not one dense layer with softplus"),
        ({**HUMAN, "head_human": {"name": "dense", "activation": "softplus"}}, "units is None; it must be"),
        ({name: value for name, value in HUMAN.items() if name != "head_human"}, "has no head"),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else "",
)
def test_what_the_architecture_does_not_have(params: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        basenji.settings(params, "params.json")


def test_what_says_the_same_is_accepted() -> None:
    plain = changed(0, pool_type="max", conv_type="standard", strides=1, l2_scale=1e-8, activation="gelu")
    assert basenji.settings(plain, "x") == basenji.settings(HUMAN, "x")
    assert basenji.settings(changed(3, cropping=[64, 64]), "x") == basenji.settings(HUMAN, "x")
    doubled = basenji.settings(changed(2, rate_mult=2, round=False), "x")
    assert BasenjiConfig.from_dict(doubled).dilations == tuple(2**i for i in range(11))


def test_files_that_do_not_fit(tmp_path: Path) -> None:
    plain = Plain()
    plain.head(plain.trunk(sequence()), 4)
    path, params = plain.file.save(tmp_path / "model.h5"), written(SMALL, tmp_path)

    def refused(
        path: Path, params: Path | None, message: str, error: type[Exception] = CheckpointError
    ) -> None:
        with pytest.raises(error, match=message):
            convert("basenji2", path, tmp_path / "out", params=params)
        assert not (tmp_path / "out").exists()

    refused(path, None, r"basenji2's weights need its parameter file \(--params", ConfigError)
    refused(params, params, "not a model that Keras saved as HDF5")
    refused(path, path, "cannot be read", ConfigError)
    other = copy.deepcopy(SMALL)
    other["trunk"][2]["repeat"] = 7
    (tmp_path / "other").mkdir()
    refused(path, written(other, tmp_path / "other"), "has too few layers conv1d for its parameter file")
    other["trunk"][2]["repeat"] = 5
    refused(path, written(other, tmp_path / "other"), "conv1d_14//conv1d_14/kernel:0 has shape")
    plain.file.add("conv1d", kernel=np.zeros((1, 2, 3), np.float32))
    refused(
        plain.file.save(tmp_path / "more.h5"), params, "1 tensors have no place in the model: conv1d_17//"
    )
    plain = Plain()
    plain.head(plain.trunk(sequence()), 4)
    plain.file.layers[0][1].append(("conv1d/bias:0", np.zeros(6, np.float32)))
    refused(plain.file.save(tmp_path / "bias.h5"), params, "layer conv1d has 2 weights instead of 1")
