"""borzoi-pytorch's state dicts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from gexpr import checkpoints
from gexpr.conversion import borzoi_pytorch
from gexpr.conversion.adapter import Source
from gexpr.conversion.convert import convert
from gexpr.errors import CheckpointError
from gexpr.models.borzoi import Borzoi, BorzoiConfig

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


def test_flashzoi_is_refused_by_name(model: Borzoi, tmp_path: Path) -> None:
    state = state_dict(model)
    state["transformer.0.0.fn.1.mha.Wqkv.weight"] = torch.zeros(2, 2)
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match="is a Flashzoi"):
        convert("borzoi-pytorch", tmp_path / "w.pt", tmp_path / "out")
