"""Checkpoints made to do harm: refused in one line, without hanging, large allocations or executed code.

Each goes through ``gexpr inspect --verify`` in a child process whose memory and time are limited, so that a
crash, a hang or an exhausted memory is the failure of one case.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from child import Child

from gexpr import checkpoints
from gexpr.errors import CheckpointError, GexprError

MEMORY = 1 << 30
MANY = 1 << 40

Damage = Callable[[Path], Any]


@pytest.fixture(scope="module")
def child() -> Iterator[Child]:
    """Takes at most 1 GB, and two minutes for what takes a second."""
    with Child(limit=120, memory=MEMORY) as process:
        yield process


def refusal(child: Child, name: str | Path) -> str:
    """What ``gexpr inspect --verify`` says, which must be one short line, with exit code 1."""
    answer = child.ask("gexpr", arguments=["inspect", "--verify", str(name)])
    assert answer["outcome"] == "accepted", answer
    assert answer["exit_code"] == 1 and answer["stdout"] == "", answer
    (said,) = answer["stderr"].splitlines()
    assert said.startswith("error: ") and said.isprintable() and len(said) < 1000, said
    return str(said)


def edit(folder: Path, **values: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def with_settings(**values: Any) -> Damage:
    def damage(folder: Path) -> None:
        settings = json.loads((folder / "config.json").read_text())["settings"]
        edit(folder, settings={**settings, **values})

    return damage


def with_config(**values: Any) -> Damage:
    return lambda folder: edit(folder, **values)


def config_text(old: str, new: str) -> Damage:
    def damage(folder: Path) -> None:
        text = (folder / "config.json").read_text()
        assert old in text
        (folder / "config.json").write_text(text.replace(old, new))

    return damage


def with_header(change: Callable[[dict[str, Any]], Any]) -> Damage:
    """Change the header; bytes that ``change`` returns are the header. The digest is made to fit."""

    def damage(folder: Path) -> None:
        path = folder / "model.safetensors"
        raw = path.read_bytes()
        (length,) = struct.unpack("<Q", raw[:8])
        header = json.loads(raw[8 : 8 + length])
        text = change(header)
        text = text if isinstance(text, bytes) else json.dumps(header).encode()
        path.write_bytes(struct.pack("<Q", len(text)) + text + raw[8 + length :])
        edit(folder, weights_sha256=hashlib.sha256(path.read_bytes()).hexdigest())

    return damage


def more(name: str = "more", **values: Any) -> Damage:
    """One tensor more, without data unless said otherwise."""
    return with_header(
        lambda h: h.update({name: {"dtype": "F32", "shape": [0], "data_offsets": [0, 0], **values}})
    )


def first(**values: Any) -> Damage:
    """The first tensor says something else of itself."""
    return with_header(lambda h: h[next(name for name in h if name.endswith("weight"))].update(values))


def nested(levels: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(levels):
        value = {"a": value}
    return value


def tracks(old: bytes, new: bytes) -> Damage:
    def damage(folder: Path) -> None:
        text = (folder / "tracks.tsv").read_bytes()
        assert old in text
        (folder / "tracks.tsv").write_bytes(text.replace(old, new))

    return damage


def replaced(name: str, make: Callable[[Path], Any]) -> Damage:
    """Something else than a file in a file's place."""

    def damage(folder: Path) -> None:
        (folder / name).unlink()
        make(folder / name)

    return damage


def sparse(name: str, size: int) -> Damage:
    """A file that is as large as it claims, of holes."""

    def damage(folder: Path) -> None:
        os.truncate(folder / name, size)

    return damage


HOSTILE: dict[str, tuple[Damage, str]] = {
    # the safetensors header
    "offsets below zero": (first(data_offsets=[-8, 4]), "header is damaged at tensor"),
    "offsets reversed": (first(data_offsets=[4000, 0]), "its offsets 4000..0 give -4000"),
    "offsets of 100 digits": (first(data_offsets=[0, 10**100]), "header is damaged at tensor"),
    "offsets are fractions": (first(data_offsets=[0.0, 4.0]), "header is damaged at tensor"),
    "three offsets": (first(data_offsets=[0, 1, 2]), "header is damaged at tensor"),
    "offsets of true": (first(data_offsets=[False, True]), "header is damaged at tensor"),
    "offsets that overlap": (first(data_offsets=[0, 4], shape=[1]), "header is damaged: tensor"),
    "1 TB": (first(shape=[1 << 38]), "claims shape [274877906944] F32 = 1099511627776 bytes, more than the"),
    "extents of 300 digits": (more(shape=[10**300] * 1000), "header is damaged at tensor 'more'"),
    "extents of 4,000 digits": (more(shape=[10**4000] * 1500), "header is damaged at tensor 'more'"),
    "a product of 300 digits": (more(shape=[1 << 63] * 16), "claims shape [9223372036854775808, "),
    "100,000 dimensions": (more(shape=[1] * 100_000), "header is damaged at tensor 'more'"),
    "a type that is a list": (more(dtype=["F32"]), "has type ['F32'], which gexpr does not read"),
    "a type of 100,000 letters": (more(dtype="Q" * 100_000), "which gexpr does not read"),
    "a name of 100,000 letters": (more("x" * 100_000), "1 tensors do not belong to the architecture: 'xxx"),
    "a name that is a path": (more("../../../../x"), "do not belong to the architecture: '../../"),
    "a name that writes on the terminal": (more("a\n\x1b[2J"), r"architecture: 'a\n\x1b[2J'"),
    "metadata that are numbers": (
        with_header(lambda h: h.update(__metadata__={"a": 1})),
        "__metadata__ is no",
    ),
    "metadata that are a list": (with_header(lambda h: h.update(__metadata__=[])), "__metadata__ is no"),
    "half a character": (
        with_header(lambda h: json.dumps({"__metadata__": {"a": "\ud800"}, **h}).encode()),
        "safetensors cannot read it: ",
    ),
    "a name twice": (
        with_header(lambda h: b'{"a":0,' + json.dumps({"a": 1, **h}).encode()[1:]),
        "occurs twice",
    ),
    "UTF-16": (with_header(lambda h: json.dumps(h).encode("utf-16")), "header is damaged: 'utf-8' codec"),
    "NaN": (with_header(lambda h: b'{"a": NaN}'), "header is damaged: NaN is no number of JSON"),
    "nested lists": (with_header(lambda h: b"[" * 200_000), "header is damaged: nested without end"),
    "nested objects": (with_header(lambda h: b'{"a":' * 200_000), "header is damaged: nested without end"),
    "many lists": (with_header(lambda h: b"[" + b"[]," * 500_000 + b"0]"), "not a JSON object"),
    "a header of 32 MB": (
        with_header(lambda h: b" " * (32 << 20) + b"{}"),
        "a header length of 33554434 bytes",
    ),
    "a header beyond the file": (
        lambda f: (f / "model.safetensors").write_bytes(struct.pack("<Q", 1 << 22) + b"{}"),
        "truncated: the header should end at byte 4194312, the file has 10 bytes",
    ),
    "a header of 2^64 - 1 bytes": (
        lambda f: (f / "model.safetensors").write_bytes(struct.pack("<Q", (1 << 64) - 1) + b"{}"),
        "a header length of 18446744073709551615 bytes",
    ),
    "1 TB of holes behind the weights": (sparse("model.safetensors", MANY), "bytes follow the last tensor"),
    # numbers in the settings
    **{
        f"{name} of 400 digits": (
            with_settings(**{name: 10**400}),
            f"settings: {name} 1000000000000000000000... cannot be",
        )
        for name in (
            "channels",
            "key_size",
            "attention_heads",
            "block_size",
            "context_length",
            "seed",
            "depth",
        )
    },
    "context_length of 10^12": (
        with_settings(context_length=10**12),
        "context_length 1000000000000 cannot be",
    ),
    "channels of 2^40": (with_settings(channels=MANY), "config.json: settings: "),
    "stem_channels of 2^40": (with_settings(stem_channels=MANY), "config.json: settings: "),
    "key_size of 2^40": (with_settings(key_size=MANY), "the settings in config.json give ["),
    "key_size of 2^62": (with_settings(key_size=1 << 62), "config.json: settings: "),
    "a kernel of 2^40": (with_settings(stem_kernel=MANY + 1), "the settings in config.json give ["),
    "tokens of 2^40": (with_settings(global_tokens=MANY), "tensors of the architecture are missing: tokens"),
    "feedforward_factor of 2^40": (
        with_settings(feedforward_factor=MANY),
        "the settings in config.json give [",
    ),
    "random_blocks of 10,000": (with_settings(random_blocks=10_000), "random_blocks 10000 cannot be"),
    "random_blocks of 2^40": (with_settings(random_blocks=MANY), "random_blocks 1099511627776 cannot be"),
    "10^9 tracks": (with_settings(heads={"tracks": 10**9}), "the settings in config.json give [1000000000"),
    "10^30 tracks": (with_settings(heads={"tracks": 10**30}), "config.json: settings: "),
    "100,000 heads": (with_settings(heads={f"h{i}": 1 for i in range(100_000)}), "heads has 100000 entries"),
    "100,000 tower widths": (
        with_settings(tower_channels=[24] * 100_000),
        "tower_channels has 100000 entries",
    ),
    "a dilation beyond floats": (
        with_settings(dilated_layers=3, dilated_rate=1e308),
        "config.json: settings: ",
    ),
    "a setting of 100,000 letters": (with_settings(key_size="8" * 100_000), "settings: key_size is '888"),
    "a setting's name of 100,000 letters": (
        with_settings(**{"x" * 100_000: 1}),
        "unknown model setting 'xxx",
    ),
    "a head that is a method": (with_settings(heads={"forward": 2}), "heads has the name 'forward'"),
    "a head that writes on the terminal": (with_settings(heads={"a\x1b": 2}), "control character U+001B"),
    # the rest of config.json
    "100,000 levels": (
        config_text('"epochs": 3', '"epochs": ' + "[" * 100_000),
        "not JSON: nested without end",
    ),
    "900 levels": (with_config(training=nested(900)), "nested more than 14 levels deep"),
    "15 levels": (with_config(training=nested(13)), "nested more than 14 levels deep"),
    "a number of 5,000 digits": (
        config_text('"epochs": 3', '"epochs": ' + "9" * 5000),
        "not JSON: Exceeds the limit",
    ),
    "NaN in the training": (
        config_text('"epochs": 3', '"epochs": NaN'),
        "not JSON: NaN is no number of JSON",
    ),
    "a key twice": (config_text('"epochs": 3', '"epochs": 3, "epochs": 4'), "not JSON: a name occurs twice"),
    "text that writes on the terminal": (
        with_config(gexpr_version="\x1b]0;x\x07"),
        "control character U+001B",
    ),
    "half a character in a text": (with_config(training={"a": ["\ud800"]}), "control character U+D800"),
    "half a character in a key": (with_config(training={"a": {"\udfff": 1}}), "control character U+DFFF"),
    "an architecture that is a module": (
        with_config(architecture="os.system"),
        "unknown architecture 'os.system'",
    ),
    "an architecture of 100,000 letters": (
        with_config(architecture="a" * 100_000),
        "unknown architecture 'aaa",
    ),
    "a version of 100,000 digits": (
        config_text('"format_version": 1', '"format_version": "' + "1" * 100_000 + '"'),
        "format_version '111",
    ),
    "a config of 9 MB": (sparse("config.json", 9 << 20), "9437184 bytes is too large for a config.json"),
    "a config of 1 TB": (sparse("config.json", MANY), "1099511627776 bytes is too large for a config.json"),
    # tracks.tsv
    "a label that writes on the terminal": (
        tracks(b"TSS wild type +", b"\x1b[2J"),
        "the label contains the control character U+001B",
    ),
    "a label with a NUL byte": (
        tracks(b"TSS wild type +", b"TSS\0"),
        "the label contains the control character U+0000",
    ),
    "an index of 5,000 digits": (tracks(b"\n0\t", b"\n" + b"9" * 5000 + b"\t"), "line 2: index '999"),
    "a scale beyond floats": (tracks(b"\t0.5\t", b"\t1e999\t"), "scale inf is not a positive number"),
    "an id of 100,000 letters": (
        tracks(b"wt_plus", b"x" * 100_000 + b"\t"),
        "line 2: 10 tab-separated fields",
    ),
    "tracks of 1 TB": (sparse("tracks.tsv", MANY), "tracks.tsv: more than 67,108,864 bytes"),
    # other things than files
    "weights that lead to themselves": (
        replaced("model.safetensors", lambda p: p.symlink_to(p.name)),
        "model.safetensors is missing",
    ),
    "a config that leads nowhere": (
        replaced("config.json", lambda p: p.symlink_to("/nowhere")),
        "config.json is missing",
    ),
    "tracks that are a folder": (replaced("tracks.tsv", Path.mkdir), "tracks.tsv is missing"),
    "a config that is a pipe": (replaced("config.json", os.mkfifo), "config.json is missing"),
    "tracks that never end": (
        replaced("tracks.tsv", lambda p: p.symlink_to("/dev/zero")),
        "tracks.tsv is missing",
    ),
    "weights that are the config": (
        replaced("model.safetensors", lambda p: p.symlink_to("config.json")),
        "not a safetensors file",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_checkpoints(name: str, checkpoint: Path, child: Child) -> None:
    damage, words = HOSTILE[name]
    damage(checkpoint)
    said = refusal(child, checkpoint)
    assert words in said and str(checkpoint) in said


def test_no_child_was_lost(child: Child) -> None:
    """One process did all of them: none crashed or hung."""
    assert child.starts <= 1


class Bomb:
    """Unpickled, it makes a folder."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("saved", ["pickle", "torch.save", "torch.save of old"])
@pytest.mark.parametrize("name", ["model.safetensors", "model.pt", "pytorch_model.bin"])
def test_a_bomb_is_not_unpickled(
    saved: str, name: str, checkpoint: Path, tmp_path: Path, child: Child
) -> None:
    marker, path = tmp_path / "executed", checkpoint / name
    if saved == "pickle":
        path.write_bytes(pickle.dumps({"weight": Bomb(marker)}))
    else:
        torch.save({"weight": Bomb(marker)}, path, _use_new_zipfile_serialization=saved == "torch.save")
    if name == "model.safetensors":
        edit(checkpoint, weights_sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    else:
        (checkpoint / "model.safetensors").unlink()
        assert "refused: a pickled PyTorch file" in refusal(child, path)
    assert "refused: a pickled PyTorch file" in refusal(child, checkpoint)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("", "no checkpoint ''"),
        (".", ".: not a complete checkpoint"),
        ("../" * 300, "not a complete checkpoint|cannot be read"),
        ("yeast-tss/../../../../secret", "no checkpoint 'yeast-tss/../../../../secret'"),
        ("../checkpoints/yeast-tss", "no checkpoint '../checkpoints/yeast-tss'"),
        ("x" * 5000, "cannot be read: File name too long"),
        ("a\0b", r"no checkpoint 'a\\x00b'"),
        ("a\nb\x1b[2J", r"no checkpoint 'a\\nb\\x1b\[2J'"),
        ("https://example.org/yeast-tss", "a checkpoint is a folder on this machine; download it first"),
        ("s3://bucket/yeast-tss", "a checkpoint is a folder on this machine; download it first"),
    ],
    ids=range(10),
)
def test_names_that_are_none(name: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for function in (checkpoints.describe, checkpoints.load):
        with pytest.raises(CheckpointError, match=words) as caught:
            function(name)
        assert "\n" not in str(caught.value)


def test_a_folder_that_leads_to_itself(tmp_path: Path, child: Child) -> None:
    (tmp_path / "loop").symlink_to("loop")
    assert "no checkpoint" in refusal(child, tmp_path / "loop")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tracks.tsv", "."])
def test_files_that_cannot_be_read(name: str, checkpoint: Path) -> None:
    (checkpoint / name).chmod(0)
    try:
        if os.access(checkpoint / name, os.R_OK):
            pytest.skip("this user reads everything")
        for function in (checkpoints.describe, checkpoints.load):
            with pytest.raises(GexprError, match="Permission denied"):
                function(checkpoint)
    finally:
        (checkpoint / name).chmod(0o755)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tracks.tsv"])
def test_files_that_fail_while_they_are_read(
    name: str, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a network file system; root sees this too."""
    opened = open

    def fail(path: Any, *arguments: Any, **settings: Any) -> Any:
        if isinstance(path, (str, Path)) and Path(path) == checkpoint / name:
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, *arguments, **settings)

    monkeypatch.setattr("builtins.open", fail)
    monkeypatch.setattr("io.open", fail)
    for function in (checkpoints.describe, checkpoints.load):
        with pytest.raises(GexprError, match=rf"{name}: cannot be read: Permission denied"):
            function(checkpoint)


def test_a_context_of_many_blocks_is_described_without_counting_pairs(checkpoint: Path, child: Child) -> None:
    """65,536 blocks have 4 billion pairs."""
    with_settings(context_length=1 << 26)(checkpoint)
    answer = child.ask("gexpr", arguments=["inspect", "--json", str(checkpoint)])
    assert answer["exit_code"] == 0, answer
    described = json.loads(answer["stdout"])
    assert described["context_length"] == 1 << 26 and described["attended_share"] is None


def test_the_deepest_training_that_is_accepted_can_be_shown(checkpoint: Path, child: Child) -> None:
    edit(checkpoint, training=nested(12))
    for format in ([], ["--json"]):
        answer = child.ask("gexpr", arguments=["inspect", *format, str(checkpoint)])
        assert answer["outcome"] == "accepted" and answer["exit_code"] == 0, answer


def test_a_good_checkpoint_passes(checkpoint: Path, child: Child) -> None:
    """The limits of the child are none for what is not hostile."""
    assert child.ask("gexpr", arguments=["inspect", "--verify", str(checkpoint)])["exit_code"] == 0
    assert child.ask("checkpoint", path=str(checkpoint))["outcome"] == "accepted"
    shutil.rmtree(checkpoint)
    assert "no checkpoint" in refusal(child, checkpoint)
