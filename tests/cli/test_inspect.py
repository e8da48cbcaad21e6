"""``gexpr inspect``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from gexpr import checkpoints
from gexpr.cli.main import main
from gexpr.models import registry
from gexpr.results import Track

SETTINGS: dict[str, Any] = {
    "context_length": 4096,
    "target_length": 224,
    "heads": {"tracks": 2},
    "channels": 24,
    "divisible_by": 2,
    "num_downsamples": 4,
    "depth": 2,
    "attention_heads": 2,
    "key_size": 8,
    "block_size": 8,
    "random_blocks": 1,
    "relative_features": 12,
}
TRACKS = [
    Track(0, "plus", "TSS +", strand="+", strand_pair=1),
    Track(1, "minus", "TSS -", strand="-", strand_pair=0),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny checkpoint under a folder that can stand for the built-in ones."""
    model = registry.build("sparse_enformer", SETTINGS)
    training = {"epochs": 3, "test": {"pearson": 0.123456789, "contigs": ["chrI", "chrIX"]}}
    return checkpoints.save(tmp_path_factory.mktemp("builtin") / "tiny", model, TRACKS, training, "card")


def inspect(*arguments: object) -> Any:
    return CliRunner().invoke(main, ["inspect", *map(str, arguments)])


def test_text(folder: Path) -> None:
    result = inspect(folder, "--verify")
    assert result.exit_code == 0, result.output
    lines = {line.split("  ")[0].strip(): line for line in result.stdout.splitlines()}
    info = checkpoints.describe(folder)
    assert lines["architecture"].endswith(" sparse_enformer")
    assert lines["context"].endswith(" 4,096 bp")
    assert lines["output"].endswith(" 224 bins of 16 bp: the middle 3,584 bp")
    assert lines["parameters"].endswith(f" {info.parameters:,}")
    assert f"{info.attended_share:.1%} of block pairs attended" in lines["attention"]
    assert "pearson" in result.stdout
    assert "0.123457" in result.stdout
    assert '["chrI", "chrIX"]' in result.stdout
    assert "tracks (2)" in result.stdout
    assert result.stdout.splitlines()[-1].split() == ["1", "minus", "TSS", "-", "-", "0", "1", "count"]


def test_json(folder: Path) -> None:
    info = json.loads(inspect(folder, "--json").stdout)
    assert info["architecture"] == "sparse_enformer"
    assert info["settings"].items() >= SETTINGS.items()
    assert info["tracks"][1] == TRACKS[1]._asdict()
    assert info["training"]["epochs"] == 3
    assert 0 < info["attended_share"] < 1


def test_dense_models_have_no_attended_share(tmp_path: Path) -> None:
    settings = {k: v for k, v in SETTINGS.items() if k not in ("block_size", "random_blocks")}
    checkpoints.save(tmp_path / "dense", registry.build("enformer", settings), TRACKS, {}, "")
    assert json.loads(inspect(tmp_path / "dense", "--json").stdout)["attended_share"] is None
    text = inspect(tmp_path / "dense").stdout
    assert "block-sparse" not in text
    assert "not recorded" in text


def test_list(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gexpr.checkpoints.names.BUILTIN_FOLDER", folder.parent)
    assert inspect().stdout == "tiny\n"
    assert inspect("--list").stdout == "tiny\n"
    assert json.loads(inspect("--list", "--json").stdout) == ["tiny"]
    assert json.loads(inspect("tiny", "--json").stdout)["name"] == "tiny"


def test_verify_finds_what_describe_does_not_read(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "c").mkdir()
    for path in folder.iterdir():
        content = bytearray(path.read_bytes())
        if path.name == "model.safetensors":
            content[-1] ^= 1
        (tmp_path / "c" / path.name).write_bytes(content)
    assert inspect(tmp_path / "c").exit_code == 0
    result = inspect(tmp_path / "c", "--verify")
    assert result.exit_code == 1
    assert "SHA-256 is" in result.stderr
    assert result.stdout == ""


def test_unknown_checkpoint() -> None:
    result = inspect("no-such-model")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: no checkpoint 'no-such-model'")


def test_several_one_after_another(folder: Path, tmp_path: Path) -> None:
    other = checkpoints.save(tmp_path / "other", checkpoints.load(folder), TRACKS, {}, "card")
    texts = [inspect(each).stdout for each in (folder, other)]
    assert texts[0] != texts[1]
    assert inspect(folder, other).stdout == "\n".join(texts) == inspect(f"{folder},{other}").stdout
    found = json.loads(inspect(folder, other, "--json").stdout)
    assert [each["name"] for each in found] == ["tiny", "other"]
