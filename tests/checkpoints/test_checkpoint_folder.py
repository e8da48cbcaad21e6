"""Writing, reading and describing checkpoints."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import gexpr
from gexpr import checkpoints
from gexpr.checkpoints import folder as folder_module
from gexpr.errors import CheckpointError
from gexpr.results import Track


def one_hot(length: int, batch: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(7)
    codes = torch.randint(0, 4, (batch, length), generator=generator)
    return torch.nn.functional.one_hot(codes, 4).float()


def test_load_gives_back_the_model(checkpoint: Path, tiny_model: Any, tracks: list[Track]) -> None:
    model = gexpr.load(checkpoint)
    assert isinstance(model, torch.nn.Module)
    assert not model.training
    assert model.config == tiny_model.config
    assert model.tracks == tracks
    x = one_hot(4096)
    with torch.no_grad():
        result = model(x)
        expected = tiny_model(x)
    assert result.shape == (2, 224, 2)
    assert torch.equal(result, expected)


def test_random_blocks_come_from_the_config(tmp_path: Path, make_model: Callable[..., Any]) -> None:
    first, second = make_model(), make_model()
    x = one_hot(4096, batch=1)
    tracks = [Track(i, f"t{i}", "") for i in range(2)]
    other = checkpoints.load(
        checkpoints.save(tmp_path / "a", make_model(settings={"seed": 5}), tracks, {}, "")
    )
    same = checkpoints.load(checkpoints.save(tmp_path / "b", first, tracks, {}, ""))
    with torch.no_grad():
        assert torch.equal(same(x), second(x))
        assert not torch.equal(other(x), second(x))


def test_loading_leaves_the_random_state_alone(checkpoint: Path) -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    checkpoints.load(checkpoint)
    checkpoints.describe(checkpoint)
    assert torch.equal(torch.rand(2), expected)


def test_describe_names_geometry_and_size(checkpoint: Path, tiny_model: Any, tracks: list[Track]) -> None:
    info = checkpoints.describe(checkpoint)
    assert info.name == "tiny"
    assert info.architecture == "sparse_enformer"
    assert (info.context_length, info.bin_size, info.target_length, info.crop) == (4096, 16, 224, 16)
    assert info.parameters == sum(parameter.numel() for parameter in tiny_model.parameters())
    assert info.attended_share == pytest.approx(tiny_model.density())
    assert info.tracks == tracks
    assert info.training == {"epochs": 3, "test": {"pearson": [0.5, 0.25]}}
    assert info.dtypes == ("F32",)
    assert info.size == (checkpoint / "model.safetensors").stat().st_size


def test_describe_does_not_read_the_weights(checkpoint: Path) -> None:
    path = checkpoint / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-3] ^= 0xFF
    path.write_bytes(content)
    assert checkpoints.describe(checkpoint).architecture == "sparse_enformer"


def test_writing_twice_gives_the_same_bytes(tmp_path: Path, tiny_model: Any, tracks: list[Track]) -> None:
    for name in ("a", "b"):
        checkpoints.save(tmp_path / name, tiny_model, tracks, {"epochs": 1}, "card")
    for file in ("config.json", "model.safetensors", "tracks.tsv", "README.md"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_float16_halves_the_file_and_loads_as_float32(
    tmp_path: Path, checkpoint: Path, tiny_model: Any, tracks: list[Track]
) -> None:
    folder = checkpoints.save(tmp_path / "half", tiny_model, tracks, {}, "", dtype="float16")
    half, full = (path / "model.safetensors" for path in (folder, checkpoint))
    assert half.stat().st_size < 0.7 * full.stat().st_size
    model = checkpoints.load(folder)
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point():
            assert tensor.dtype == torch.float32
            torch.testing.assert_close(tensor, tiny_model.state_dict()[name], rtol=2**-11, atol=2**-24)
    assert checkpoints.describe(folder).dtypes == ("F16",)


def test_pattern_buffers_are_not_stored(checkpoint: Path, tiny_model: Any) -> None:
    stored = load_file(checkpoint / "model.safetensors")
    assert set(stored) == set(tiny_model.state_dict())
    assert not {name for name in stored if "pattern" in name or "layout" in name}


def test_an_old_checkpoint_is_replaced(tmp_path: Path, tiny_model: Any, make_model: Any, tracks: Any) -> None:
    checkpoints.save(tmp_path / "c", tiny_model, tracks, {"epochs": 1}, "")
    checkpoints.save(tmp_path / "c", make_model(seed=2), tracks, {"epochs": 2}, "")
    assert checkpoints.describe(tmp_path / "c").training == {"epochs": 2}
    checkpoints.load(tmp_path / "c")
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


def test_a_folder_with_other_things_is_not_replaced(tmp_path: Path, tiny_model: Any, tracks: Any) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.txt").write_text("years of work")
    with pytest.raises(CheckpointError, match=r"thesis\.txt"):
        checkpoints.save(tmp_path / "home", tiny_model, tracks, {}, "")
    assert (tmp_path / "home" / "thesis.txt").read_text() == "years of work"


def test_a_failed_write_leaves_the_old_checkpoint(
    tmp_path: Path, tiny_model: Any, tracks: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints.save(tmp_path / "c", tiny_model, tracks, {"epochs": 1}, "")

    def full(path: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(folder_module, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        checkpoints.save(tmp_path / "c", tiny_model, tracks, {"epochs": 2}, "")
    assert checkpoints.describe(tmp_path / "c").training == {"epochs": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tracks": [Track(0, "only", "one")]}, "1 tracks for a model with 2 outputs"),
        ({"tracks": [Track(0, "a", ""), Track(1, "a", "")]}, "also that of track 0"),
        ({"training": {"loss": float("nan")}}, "not JSON"),
        ({"training": {"path": Path("x")}}, "not JSON"),
        ({"dtype": "int8"}, "neither 'float32' nor 'float16'"),
    ],
)
def test_what_cannot_be_saved_is_refused(
    tmp_path: Path, tiny_model: Any, tracks: Any, changes: dict[str, Any], message: str
) -> None:
    arguments = {"tracks": tracks, "training": {}, "card": "", **changes}
    with pytest.raises(CheckpointError, match=message):
        checkpoints.save(tmp_path / "c", tiny_model, **arguments)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("value", "kind"), [(float("nan"), "NaN"), (float("inf"), "infinite")])
def test_non_finite_weights_are_not_saved(
    tmp_path: Path, make_model: Any, tracks: Any, value: float, kind: str
) -> None:
    model = make_model()
    with torch.no_grad():
        next(iter(model.parameters())).view(-1)[0] = value
    with pytest.raises(CheckpointError, match=f"1 of .* are {kind}"):
        checkpoints.save(tmp_path / "c", model, tracks, {}, "")


def test_float16_overflow_is_not_saved(tmp_path: Path, make_model: Any, tracks: Any) -> None:
    model = make_model()
    with torch.no_grad():
        next(iter(model.parameters())).view(-1)[0] = 1e6
    checkpoints.save(tmp_path / "full", model, tracks, {}, "")
    with pytest.raises(CheckpointError, match="infinite"):
        checkpoints.save(tmp_path / "half", model, tracks, {}, "", dtype="float16")


def test_config_is_plain_json_with_the_documented_keys(checkpoint: Path, settings: dict[str, Any]) -> None:
    config = json.loads((checkpoint / "config.json").read_text())
    assert list(config) == list(folder_module.CONFIG_KEYS)
    assert settings.items() <= config["settings"].items()
    assert (checkpoint / "README.md").read_text() == "# Tiny\n\nA model card.\n"
