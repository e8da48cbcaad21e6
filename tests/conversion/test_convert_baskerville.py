"""Borzoi-type models of baskerville: a real one against the outputs of the original program."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from keras_writer import BORZOI_PARAMS as PARAMS
from keras_writer import drawn_borzoi as drawn
from keras_writer import write_borzoi as write_keras
from keras_writer import write_params

from gexpr import checkpoints
from gexpr.conversion import baskerville
from gexpr.conversion.convert import convert
from gexpr.datasets.basenji import TargetRow, transform_of
from gexpr.errors import CheckpointError, ConfigError
from gexpr.models.base import SequenceModel, on_meta_device, parameter_count
from gexpr.models.borzoi import Borzoi, BorzoiConfig
from gexpr.models.layers import one_hot


@pytest.fixture
def params(tmp_path: Path) -> Path:
    return write_params(PARAMS, tmp_path)


@pytest.mark.parametrize("heads", [{"human": 5}, {"human": 5, "mouse": 3}], ids=len)
def test_weights_find_their_places(heads: dict[str, int], params: Path, tmp_path: Path) -> None:
    model = drawn(heads)
    write_keras(tmp_path / "model.h5", model)
    done = convert("baskerville", tmp_path / "model.h5", tmp_path / "out", params=params)
    found = checkpoints.load(done.folder)
    assert found.config == model.config and not done.dropped
    for name, value in model.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            assert torch.equal(found.state_dict()[name], value), name
    x = torch.eye(4)[torch.randint(0, 4, (1, 256))]
    with torch.inference_mode():
        for head in heads:
            assert torch.equal(found(x, head), model(x, head))


def test_the_second_head_has_a_file_of_its_own(params: Path, tmp_path: Path) -> None:
    """The program saves the first head as model0_best.h5 and the second as model1_best.h5."""
    write_keras(tmp_path / "model1_best.h5", drawn({"mouse": 3}))
    done = convert("baskerville", tmp_path / "model1_best.h5", tmp_path / "out", params=params)
    assert checkpoints.describe(done.folder).settings["heads"] == {"mouse": 3}


def test_normalizations_of_several_devices_have_another_name(params: Path, tmp_path: Path) -> None:
    model = drawn({"human": 5})
    write_keras(tmp_path / "model.h5", model, norms="sync_batch_normalization")
    done = convert("baskerville", tmp_path / "model.h5", tmp_path / "out", params=params)
    x = torch.eye(4)[torch.randint(0, 4, (1, 256))]
    with torch.inference_mode():
        assert torch.equal(checkpoints.load(done.folder)(x), model(x))


def test_settings_of_the_parameter_file() -> None:
    found = BorzoiConfig.from_dict(baskerville.settings(PARAMS, "params"))
    assert found == BorzoiConfig(
        context_length=256,
        target_length=48,
        heads={"human": 5, "mouse": 3},
        stem_channels=6,
        stem_kernel=7,
        tower_channels=(8, 10, 12),
        depth=2,
        attention_heads=2,
        key_size=4,
        relative_features=8,
        final_channels=20,
    )
    assert found.bin_size == 4 and found.token_size == 16


def changed(block: int, **options: Any) -> dict[str, Any]:
    params = copy.deepcopy(PARAMS)
    params["trunk"][block].update(options)
    return params


def without(block: int, option: str) -> dict[str, Any]:
    params = copy.deepcopy(PARAMS)
    del params["trunk"][block][option]
    return params


def reordered(*blocks: int) -> dict[str, Any]:
    return {**PARAMS, "trunk": [PARAMS["trunk"][block] for block in blocks]}


PUBLISHED: dict[str, Any] = {
    "verbose": False,
    "seq_length": 524288,
    "augment_rc": True,
    "augment_shift": 3,
    "activation": "gelu",
    "norm_type": "batch-sync",
    "bn_momentum": 0.9,
    "kernel_initializer": "lecun_normal",
    "l2_scale": 2.0e-8,
    "trunk": [
        {
            "name": "conv_dna",
            "filters": 512,
            "kernel_size": 15,
            "norm_type": None,
            "activation": "linear",
            "pool_size": 2,
        },
        {
            "name": "res_tower",
            "filters_init": 608,
            "filters_end": 1536,
            "divisible_by": 32,
            "kernel_size": 5,
            "num_convs": 1,
            "pool_size": 2,
            "repeat": 6,
        },
        {
            "name": "transformer_tower",
            "key_size": 64,
            "heads": 8,
            "num_position_features": 32,
            "dropout": 0.2,
            "mha_l2_scale": 1.0e-8,
            "l2_scale": 1.0e-8,
            "kernel_initializer": "he_normal",
            "repeat": 8,
        },
        {"name": "unet_conv", "kernel_size": 3, "upsample_conv": True},
        {"name": "unet_conv", "kernel_size": 3, "upsample_conv": True},
        {"name": "Cropping1D", "cropping": 16},
        {"name": "conv_nac", "filters": 1920, "dropout": 0.1},
    ],
    "head_human": {"name": "final", "units": 7611, "activation": "softplus"},
    "head_mouse": {"name": "final", "units": 2608, "activation": "softplus"},
}
"""examples/params_pred.json of calico/borzoi; params.json beside it crops 5,120 bins."""


def test_the_published_parameter_files() -> None:
    found = BorzoiConfig.from_dict(baskerville.settings(PUBLISHED, "params_pred.json"))
    assert found == BorzoiConfig(target_length=16352)
    assert parameter_count(on_meta_device(Borzoi, found)) == 190_902_667
    trained = copy.deepcopy(PUBLISHED)
    trained["trunk"][5]["cropping"] = 5120
    assert baskerville.settings(trained, "params.json")["target_length"] == 6144


def test_upsampling_without_a_linear_layer(tmp_path: Path) -> None:
    """As in tutorials/latest/train_model/params_mini.json of calico/borzoi."""
    changes = copy.deepcopy(PARAMS)
    for block in (3, 4):
        del changes["trunk"][block]["upsample_conv"]
    model = drawn({"human": 5}, changes)
    write_keras(tmp_path / "model.h5", model)
    done = convert(
        "baskerville", tmp_path / "model.h5", tmp_path / "out", params=write_params(changes, tmp_path)
    )
    assert done.parameters == parameter_count(drawn({"human": 5})) - 2 * (12 * 12 + 12)
    block, x, joined = model.up[0], torch.randn(1, 3, 12), torch.randn(1, 6, 12)
    assert isinstance(block, torch.nn.Module)
    doubled = torch.nn.functional.gelu(block.norm(x), approximate="tanh").repeat_interleave(2, dim=1)
    side = block.joined_dense(torch.nn.functional.gelu(block.joined_norm(joined), approximate="tanh"))
    expected = block.depthwise((doubled + side).transpose(1, 2)).transpose(1, 2)
    torch.testing.assert_close(block(x, joined), block.pointwise(expected))
    x = torch.eye(4)[torch.randint(0, 4, (1, 256))]
    with torch.inference_mode():
        assert torch.equal(checkpoints.load(done.folder)(x), model(x))


def test_what_says_the_same_is_accepted() -> None:
    expected = baskerville.settings(PARAMS, "x")
    plain = changed(1, pool_type="max", conv_type="standard", se=False, norm_type="batch-sync")
    assert baskerville.settings(plain, "x") == expected
    assert baskerville.settings(changed(2, block_type="transformer", dense_expansion=2), "x") == expected
    assert baskerville.settings(reordered(0, 1, 2, 3, 4, 6, 5), "x") == expected
    assert baskerville.settings(PARAMS, "x", "sigmoid") == {**expected, "activation": "sigmoid"}
    assert baskerville.settings(without(6, "filters"), "x")["final_channels"] == 12
    assert baskerville.settings(reordered(0, 1, 2), "x")["final_channels"] is None


@pytest.mark.parametrize(
    ("params", "message"),
    [
        (
            changed(1, name="squeeze_tower"),
            r"trunk block 1 \(squeeze_tower\) is not a block of gexpr's Borzoi",
        ),
        (changed(0, name="ConvDNA"), r"trunk block 0 \(ConvDNA\) is not a block"),
        (without(0, "norm_type"), r"block 0 \(conv_dna\): norm_type 'batch' is not supported, only None"),
        (without(0, "activation"), r"block 0 \(conv_dna\): activation 'gelu' is not supported, only linear"),
        (
            without(0, "pool_size"),
            r"block 0 \(conv_dna\): pool_size 1 \(the default\) is not supported, only 2",
        ),
        (without(0, "filters"), r"block 0 \(conv_dna\): filters is None; it must be a whole number"),
        (changed(0, se=True), r"block 0 \(conv_dna\): option 'se' \(True\) is not supported"),
        (changed(1, num_convs=2), r"block 1 \(res_tower\): num_convs 2 is not supported, only 1"),
        (without(1, "num_convs"), r"block 1 \(res_tower\): num_convs 2 \(the default\) is not supported"),
        (changed(1, pool_type="softmax"), "option 'pool_type' .'softmax'. is not supported"),
        (changed(2, mystery=1), r"block 2 \(transformer_tower\): option 'mystery' \(1\) is not supported"),
        (changed(2, block_type="swin"), r"block 2 \(transformer_tower\): block_type 'swin' is not supported"),
        (changed(2, qkv_width=3), "qkv_width 3 is not supported, only 1"),
        (changed(2, dense_expansion=1.5), "dense_expansion 1.5 is not a whole number"),
        (without(4, "upsample_conv"), "upsample_conv False is not that of the first unet_conv"),
        (changed(3, stride=4), r"block 3 \(unet_conv\): stride 4 is not supported, only 2"),
        (changed(4, kernel_size=5), r"block 4 \(unet_conv\): kernel_size 5 is not that of the first"),
        (changed(6, kernel_size=3), r"block 6 \(conv_nac\): kernel_size 3 is not supported, only 1"),
        ({**PARAMS, "activation": "relu"}, "activation 'relu' is not supported, only gelu"),
        ({**PARAMS, "norm_type": "layer"}, "norm_type 'layer' is not supported, only batch or batch-sync"),
        ({**PARAMS, "mystery": 1}, r"model.mystery \(1\) is not supported"),
        ({**PARAMS, "trunk": PARAMS["trunk"][:1]}, "Borzoi has no trunk of conv_dna in this order"),
        (reordered(0, 1, 1, 2, 3, 4), "no trunk of conv_dna, res_tower, res_tower, .* in this order"),
        (reordered(0, 1, 2, 5, 3, 4), "no trunk of .*, Cropping1D, unet_conv, unet_conv in this order"),
        ({**PARAMS, "head_x": {"name": "dense"}}, "head_x is not one dense layer with softplus"),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else "",
)
def test_what_the_architecture_does_not_have(params: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        baskerville.settings(params, "params.json")


def test_files_that_do_not_fit(params: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.h5"
    with pytest.raises(ConfigError, match=r"need its parameter file \(--params"):
        convert("baskerville", path, tmp_path / "out")
    with pytest.raises(CheckpointError, match="not a model that Keras saved"):
        convert("baskerville", path, tmp_path / "out", params=params)
    write_keras(path, drawn({"human": 5}))
    with h5py.File(path, "a") as file:
        del file["model_weights/dense_3"]
        names = [name for name in file["model_weights"].attrs["layer_names"] if "dense_3" not in str(name)]
        file["model_weights"].attrs["layer_names"] = names
    with pytest.raises(CheckpointError, match="has 8 dense layers, which leaves 0 heads"):
        convert("baskerville", path, tmp_path / "out", params=params)


def test_transforms_of_targets() -> None:
    def row(sum_stat: str, clip_soft: float | None) -> TargetRow:
        return TargetRow(0, "A", "f", 384.0, clip_soft, 0.3, sum_stat, 0, "RNA:x")

    assert transform_of(row("sum_sqrt", 64), "shifted") == "squashed:shifted_power,exponent=0.5,clip_soft=64"
    assert transform_of(row("sum_sqrt", 384), "power") == "squashed:power,exponent=0.75,clip_soft=384"
    assert transform_of(row("mean", 32), "shifted") == "squashed:shifted_power,exponent=1,clip_soft=32"
    assert transform_of(row("sum_exp75", None), "shifted") == "squashed:shifted_power,exponent=0.75"
    assert transform_of(row("avg_sqrt", 9), "shifted") == "squashed:shifted_power,exponent=0.5,clip_soft=9"
    assert transform_of(row("sum", None), "shifted") == transform_of(row("avg", None), "power") == "count"
    with pytest.raises(
        ConfigError, match="sum_stat 'sum_exp75' is not one of: sum_sqrt, sum, mean, avg, max"
    ):
        transform_of(row("sum_exp75", None), "power")
    with pytest.raises(ConfigError, match="sum_stat 'median' is not one of"):
        transform_of(row("median", None), "shifted")


@pytest.fixture(scope="module")
def mini(reference_data: Path, tmp_path_factory: pytest.TempPathFactory) -> SequenceModel:
    folder = reference_data / "data" / "human"
    done = convert(
        "baskerville",
        folder / "borzoi_mini" / "model.h5",
        tmp_path_factory.mktemp("mini") / "out",
        params=folder / "borzoi_mini" / "params.json",
        targets={None: str(folder / "targets.txt")},
    )
    assert done.parameters == 642_994 - 2 * sum((64, 80, 88, 96, 104, 120, 128, 128, 128, 120))
    return checkpoints.load(done.folder)


def golden(reference_data: Path, name: str) -> Any:
    return np.load(reference_data / "data" / "human" / "borzoi_mini" / "golden" / name)


@pytest.mark.parametrize("number", [0, 1])
def test_a_real_model_predicts_what_the_original_predicts(
    number: int, mini: SequenceModel, reference_data: Path
) -> None:
    expected = golden(reference_data, f"pred_{number}.npz")
    with torch.inference_mode():
        found = mini(one_hot(torch.from_numpy(expected["sequence"])[None]))[0].numpy()
    largest = np.abs(expected["prediction"]).max()
    assert np.abs(found - expected["prediction"]).max() < 1e-4 * largest


def test_what_is_in_between_is_the_originals(mini: SequenceModel, reference_data: Path) -> None:
    assert isinstance(mini, Borzoi)
    activations = golden(reference_data, "activations.npz")
    codes = torch.from_numpy(golden(reference_data, "pred_0.npz")["sequence"])
    seen: dict[str, torch.Tensor] = {}

    def keep(name: str):  # type: ignore[no-untyped-def]
        return lambda module, given, result: seen.__setitem__(name, result)

    hooks = [
        module.register_forward_hook(keep(name))
        for name, module in (
            ("conv1d", mini.stem),
            *((f"conv1d_{n + 1}", block) for n, block in enumerate(mini.tower)),
            ("add_1", mini.transformer[0]),
            ("add_3", mini.transformer[1]),
            ("separable_conv1d", mini.up[0]),
            ("separable_conv1d_1", mini.up[1]),
        )
    ]
    with torch.inference_mode():
        x = one_hot(codes[None])
        mini.decode(mini.encode(x))
    for hook in hooks:
        hook.remove()
    assert len(seen) == 11
    for name, value in seen.items():
        middle = value.shape[1] // 2
        for part, found in (("first64", value[0, :64]), ("mid64", value[0, middle - 32 : middle + 32])):
            expected = activations[f"{name}/{part}"]
            largest = np.abs(expected).max()
            assert np.abs(found.numpy() - expected).max() < 1e-4 * largest, (name, part)


def test_sums_for_variants_are_the_originals(mini: SequenceModel, reference_data: Path) -> None:
    expected = golden(reference_data, "variant_sums.npz")
    codes = torch.from_numpy(golden(reference_data, "pred_0.npz")["sequence"])
    with torch.inference_mode():
        reference = mini(one_hot(codes[None]))[0].double().sum(0).numpy()
        for row in range(0, 20, 4):
            place, ref, alt = (expected[name][row] for name in ("offset0", "ref", "alt"))
            changed_codes = codes.clone()
            letters = "ACGT"
            assert letters[int(codes[place])] == str(ref)
            changed_codes[place] = letters.index(str(alt))
            alternate = mini(one_hot(changed_codes[None]))[0].double().sum(0).numpy()
            sums = expected["sums"][row]
            assert np.abs(reference - sums[0]).max() < 1e-4 * np.abs(sums[0]).max()
            difference = (alternate - reference) - (sums[1] - sums[0])
            assert np.abs(difference).max() < 1e-3
