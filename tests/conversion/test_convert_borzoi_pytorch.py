"""borzoi-pytorch's state dicts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from plain_flashzoi import PlainFlashAttention

from gexpr import checkpoints
from gexpr.conversion import borzoi_pytorch
from gexpr.conversion.adapter import Source
from gexpr.conversion.convert import convert
from gexpr.errors import CheckpointError
from gexpr.models.borzoi import FLASHZOI, Borzoi, BorzoiConfig

SMALL = dict(
    context_length=512,
    target_length=96,
    heads={"human": 3, "mouse": 2},
    stem_channels=6,
    stem_kernel=7,
    tower_channels=(8, 10, 12),
    depth=2,
    attention_heads=2,
    key_size=4,
    value_size=6,
    relative_features=8,
    final_channels=14,
)


def state_dict(model: Borzoi) -> dict[str, torch.Tensor]:
    """The model's tensors under borzoi-pytorch's names and in its shapes."""
    ours = model.state_dict()
    found = {"transformer.0.0.fn.1.positions": torch.zeros(63, 8)}
    for place in borzoi_pytorch.places(model.config):
        value = ours[place.target]
        name = place.source
        if name.endswith(("rel_content_bias", "rel_pos_bias")):
            value = value[None, :, None]
        elif place.change is not None:
            value = value[..., None]
        found[name] = value.clone()
    return found


@pytest.fixture
def model() -> Borzoi:
    torch.manual_seed(4)
    model = Borzoi(BorzoiConfig.from_dict(SMALL)).eval()
    for each in model.parameters():
        torch.nn.init.normal_(each, std=0.3)
    return model


def test_predictions_are_those_of_the_weights(model: Borzoi, tmp_path: Path) -> None:
    torch.save(state_dict(model), tmp_path / "w.pt")
    done = convert(
        "borzoi-pytorch", tmp_path / "w.pt", tmp_path / "out", context_length=512, target_length=96
    )
    found = checkpoints.load(done.folder)
    assert found.config == model.config
    assert list(done.dropped) == ["transformer.0.0.fn.1.positions"]
    x = torch.eye(4)[torch.randint(0, 4, (1, 512))]
    with torch.inference_mode():
        for head in ("human", "mouse"):
            assert torch.equal(found(x, head), model(x, head))


def test_the_published_list_of_names_is_that_of_the_table(reference_data: Path) -> None:
    """Names and shapes of borzoi-pytorch at full size, as it lists them."""
    listed = {}
    for line in (reference_data / "design" / "borzoi-pytorch-keys.txt").read_text().splitlines():
        name, _, shape = line.partition("\t")
        listed[name] = tuple(int(each) for each in shape.strip("()").replace(" ", "").split(",") if each)
    source = Source("list", listed, lambda name: np.zeros(listed[name]))
    config = BorzoiConfig.from_dict(borzoi_pytorch.settings(source))
    assert config == BorzoiConfig(value_size=192)
    assert {place.source for place in borzoi_pytorch.places(config)} == set(listed)


WIDTH, SIZE, FEATURES = 48, 6, 4
"""Of the small Flashzoi, whose 8 heads of queries share 4 of keys and values."""


def flashzoi(frequencies: bool = True) -> tuple[dict[str, torch.Tensor], list[PlainFlashAttention]]:
    """A small Flashzoi under borzoi-pytorch's names, and its attention written out."""
    torch.manual_seed(6)
    small = {**SMALL, "tower_channels": (8, 10, WIDTH), "value_size": WIDTH // 2}
    model = Borzoi(BorzoiConfig.from_dict(small)).eval()
    for each in model.parameters():
        torch.nn.init.normal_(each, std=each[0].numel() ** -0.5 if each.ndim > 1 else 0.3)
    state = {name: value for name, value in state_dict(model).items() if ".0.fn.1." not in name}
    layers = []
    for b in range(2):
        layer = PlainFlashAttention(WIDTH, 8, 4, FEATURES, 20_000)
        torch.nn.init.normal_(layer.Wqkv.weight, std=0.3)
        layers.append(layer.double())
        name = f"transformer.{b}.0.fn.1.mha"
        state |= {f"{name}.{key}": value.float() for key, value in layer.state_dict().items()}
        layer.load_state_dict({key: value.float() for key, value in layer.state_dict().items()})
        if frequencies:
            state[f"{name}.rotary_emb.inv_freq"] = torch.tensor([1.0, 20_000**-0.5])
    return state, layers


def test_flashzoi_computes_what_its_formulas_say(tmp_path: Path) -> None:
    state, layers = flashzoi()
    torch.save(state, tmp_path / "w.pt")
    geometry = dict(context_length=512, target_length=96)
    done = convert("borzoi-pytorch", tmp_path / "w.pt", tmp_path / "out", **geometry)  # type: ignore[arg-type]
    assert list(done.dropped) == [f"transformer.{b}.0.fn.1.mha.rotary_emb.inv_freq" for b in range(2)]
    assert done.tensors == len(state) - 2
    model = checkpoints.load(done.folder).double()
    assert isinstance(model, Borzoi)
    config = model.config
    assert (config.positions, config.attention_heads, config.key_value_heads) == ("rotary", 8, 4)
    assert (config.key_size, config.rotary_features, config.rotary_base) == (SIZE, FEATURES, 20_000)
    x = torch.eye(4, dtype=torch.float64)[torch.randint(0, 4, (1, 512))]
    with torch.inference_mode():
        found = [model(x, head) for head in ("human", "mouse")]
        for block, layer in zip(model.transformer, layers, strict=True):
            block.attention = layer
        for head, each in zip(("human", "mouse"), found, strict=True):
            expected = model(x, head)
            assert expected.std() > 1e-3
            torch.testing.assert_close(each, expected, rtol=1e-9, atol=1e-9)


def test_the_published_flashzoi_is_known_by_its_shapes() -> None:
    """At full size, without frequencies, and with other heads as a ``config.json`` says."""
    config = BorzoiConfig(**FLASHZOI)
    shapes = {"transformer.0.0.fn.1.mha.Wqkv.weight": (3072, 1536)}
    with torch.device("meta"):
        tensors = Borzoi(config).state_dict()
    for place in borzoi_pytorch.places(config):
        shape = tuple(tensors[place.target].shape)
        one_wide = place.target.endswith(("dense.weight", "pointwise.weight")) or place.target.startswith(
            "heads."
        )
        shapes.setdefault(place.source, (*shape, 1) if one_wide and len(shape) == 2 else shape)
    source = Source("list", shapes, lambda name: np.zeros(shapes[name]))
    assert BorzoiConfig.from_dict(borzoi_pytorch.settings(source)) == config
    other = borzoi_pytorch.settings(source, {"heads": 4})
    assert (other["attention_heads"], other["key_value_heads"], other["key_size"]) == (4, 2, 384)


def test_a_flashzoi_that_is_none_is_refused_by_name(tmp_path: Path) -> None:
    def refused(state: dict[str, torch.Tensor], message: str) -> None:
        torch.save(state, tmp_path / "w.pt")
        with pytest.raises(CheckpointError, match=message):
            convert(
                "borzoi-pytorch", tmp_path / "w.pt", tmp_path / "out", context_length=512, target_length=96
            )
        assert not (tmp_path / "out").exists()

    state, _ = flashzoi()
    first, second = (f"transformer.{b}.0.fn.1.mha" for b in range(2))
    refused(
        flashzoi(frequencies=False)[0], r"whose 8 heads have 6 numbers each, fewer than the 128 of its rot"
    )
    frequencies = {f"{first}.rotary_emb.inv_freq": torch.tensor([1.0, 0.01])}
    refused({**state, **frequencies}, rf"{first}.rotary_emb.inv_freq is not that of rotary .* base 20000")
    weights = {f"{first}.Wqkv.weight": torch.zeros(100, WIDTH)}
    refused(
        {**state, **weights}, rf"{first}.Wqkv.weight has 100 rows, which are not those of 8 heads that share"
    )
    weights = {f"{second}.Wqkv.weight": torch.zeros(100, WIDTH)}
    refused({**state, **weights}, rf"{second}.Wqkv.weight has shape \(100, 48\), which gives \(100, 48\) for")
    state.pop(f"{second}.out_proj.bias")
    refused(state, rf"has no tensor {second}.out_proj.bias")
    state, _ = flashzoi()
    refused(
        {**state, f"{first}.dwconv_q.weight": torch.zeros(2)}, rf"no place in the model: {first}.dwconv_q"
    )
    heads = Source(
        "w.pt", {name: tuple(value.shape) for name, value in state.items()}, lambda name: np.ones(2)
    )
    for number in (0, True, "8"):
        with pytest.raises(CheckpointError, match=f"w.pt: heads in its config.json is {number!r}"):
            borzoi_pytorch.settings(heads, {"heads": number})
    with pytest.raises(CheckpointError, match="has 96 rows, which are not those of 5 heads"):
        borzoi_pytorch.settings(heads, {"heads": 5})
