"""Every kind of damaged or foreign checkpoint is refused, with a message that says which."""

from __future__ import annotations

import hashlib
import json
import pickle
import resource
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load, save_file

from gexpr import checkpoints
from gexpr.errors import CheckpointError, GexprError, InputError


def weights(folder: Path) -> Path:
    return folder / "model.safetensors"


def read(folder: Path) -> dict[str, torch.Tensor]:
    return load(weights(folder).read_bytes())


def rewrite(folder: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    """Change tensors and make the digest in the config fit, as a tamperer would."""
    state = read(folder)
    change(state)
    save_file(state, weights(folder))
    sign(folder)


def sign(folder: Path) -> None:
    digest = hashlib.sha256(weights(folder).read_bytes()).hexdigest()
    edit(folder, weights_sha256=digest)


def edit(folder: Path, **values: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def edit_settings(folder: Path, **values: Any) -> None:
    edit(folder, settings={**json.loads((folder / "config.json").read_text())["settings"], **values})


def edit_header(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    raw = weights(folder).read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    weights(folder).write_bytes(struct.pack("<Q", len(text)) + text + raw[8 + length :])
    sign(folder)


def first(values: dict[str, Any]) -> str:
    return next(name for name in values if name.endswith("weight"))


def truncate(folder: Path) -> None:
    weights(folder).write_bytes(weights(folder).read_bytes()[:-100])


def truncate_header(folder: Path) -> None:
    weights(folder).write_bytes(weights(folder).read_bytes()[:200])


def flip(folder: Path) -> None:
    content = bytearray(weights(folder).read_bytes())
    content[-5] ^= 1
    weights(folder).write_bytes(content)


def set_value(value: float) -> Callable[[Path], None]:
    def change(state: dict[str, torch.Tensor]) -> None:
        state[first(state)].view(-1)[0] = value

    return lambda folder: rewrite(folder, change)


def claim(shape: list[int]) -> Callable[[Path], None]:
    def change(header: dict[str, Any]) -> None:
        header[first(header)]["shape"] = shape

    return lambda folder: edit_header(folder, change)


def overlap(folder: Path) -> None:
    def change(header: dict[str, Any]) -> None:
        one, two = sorted((e["data_offsets"][0], n) for n, e in header.items() if n != "__metadata__")[:2]
        size = header[two[1]]["data_offsets"][1] - header[two[1]]["data_offsets"][0]
        header[two[1]]["data_offsets"] = [one[0], one[0] + size]

    edit_header(folder, change)


def strange_dtype(folder: Path) -> None:
    edit_header(folder, lambda header: header[first(header)].update(dtype="F8_E4M3"))


def integers(folder: Path) -> None:
    def change(state: dict[str, torch.Tensor]) -> None:
        state[first(state)] = torch.ones_like(state[first(state)], dtype=torch.int32)

    rewrite(folder, change)


def reshape(folder: Path) -> None:
    def change(state: dict[str, torch.Tensor]) -> None:
        name = next(name for name, tensor in state.items() if tensor.ndim > 1)
        state[name] = state[name].reshape(-1)

    rewrite(folder, change)


def drop(folder: Path) -> None:
    rewrite(folder, lambda state: state.pop(first(state)))


def add(folder: Path) -> None:
    rewrite(folder, lambda state: state.update(stowaway=torch.zeros(3)))


def replace_by(name: str, content: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(content) and None


def remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def torch_saved(folder: Path) -> None:
    torch.save(read(folder), weights(folder))


def only_pickled(folder: Path) -> None:
    torch.save(read(folder), folder / "pytorch_model.bin")
    weights(folder).unlink()


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n"
HTML = b"\n<!DOCTYPE html>\n<html><body>404</body></html>"

DAMAGE: list[tuple[str, Callable[[Path], Any], str]] = [
    ("truncated", truncate, r"model\.safetensors: truncated: the tensors need \d+ bytes"),
    ("truncated in the header", truncate_header, "truncated: the header should end at byte"),
    ("empty", replace_by("model.safetensors", b""), "truncated: 0 bytes"),
    ("bit flipped", flip, "SHA-256 is .* says"),
    ("bytes appended", lambda f: weights(f).open("ab").write(b"1234"), "4 bytes follow the last tensor"),
    ("NaN", set_value(float("nan")), "1 of .* values of tensor .* are NaN"),
    ("infinite", set_value(float("-inf")), "1 of .* values of tensor .* are infinite"),
    ("missing tensor", drop, "1 tensors of the architecture are missing"),
    ("extra tensor", add, "1 tensors do not belong to the architecture: .stowaway."),
    ("other shape", reshape, r"has shape \[\d+\], the settings in config.json give \["),
    ("other type", integers, "has type I32, expected torch.float32"),
    ("unreadable type", strange_dtype, "type 'F8_E4M3', which gexpr does not read"),
    (
        "claims 4 EB",
        claim([1 << 30, 1 << 30]),
        r"claims shape \[1073741824, 1073741824\] F32 = 4611686018427387904",
    ),
    ("claims beyond 64 bit", claim([1 << 40, 1 << 40]), "more than the .* bytes of data in the file"),
    ("claims less", claim([1]), "needs 4 bytes, its offsets"),
    ("negative shape", claim([-1, 24]), "header is damaged at tensor"),
    ("overlapping tensors", overlap, "expected|needs"),
    ("header length", replace_by("model.safetensors", b"\xff" * 64), "header length of 18446744073709551615"),
    ("header no JSON", replace_by("model.safetensors", struct.pack("<Q", 4) + b"{{{{"), "header is damaged"),
    ("HTML", replace_by("model.safetensors", HTML), "an HTML page"),
    ("LFS pointer", replace_by("model.safetensors", LFS), "a Git LFS pointer"),
    ("torch.save", torch_saved, "refused: a pickled PyTorch file"),
    ("pickle", replace_by("model.safetensors", pickle.dumps({"a": 1})), "refused: a pickled PyTorch file"),
    ("only pytorch_model.bin", only_pickled, "pytorch_model.bin: refused: a pickled PyTorch file"),
    ("no weights", remove("model.safetensors"), "model.safetensors is missing"),
    ("no config", remove("config.json"), "config.json is missing"),
    ("no tracks", remove("tracks.tsv"), "tracks.tsv is missing"),
    ("config HTML", replace_by("config.json", HTML), "config.json: an HTML page"),
    ("config LFS", replace_by("config.json", LFS), "config.json: a Git LFS pointer"),
    ("tracks LFS", replace_by("tracks.tsv", LFS), "tracks.tsv: a Git LFS pointer"),
    ("config no JSON", replace_by("config.json", b"{"), "config.json: not JSON"),
    ("config nested", replace_by("config.json", b"[" * 100_000), "config.json: not JSON"),
    ("config a list", replace_by("config.json", b"[]"), "not a JSON object"),
    (
        "config of something else",
        replace_by("config.json", b'{"model_type": "bert"}'),
        "not a gexpr checkpoint",
    ),
    ("newer format", lambda f: edit(f, format_version=2), "format_version 2; .* a newer gexpr is needed"),
    ("format as text", lambda f: edit(f, format_version="1"), "format_version '1'"),
    ("unknown key", lambda f: edit(f, script="rm"), "unknown key 'script'"),
    ("digest no digest", lambda f: edit(f, weights_sha256="abc"), "'abc' is not a SHA-256"),
    ("unknown architecture", lambda f: edit(f, architecture="os.system"), "unknown architecture 'os.system'"),
    ("unknown setting", lambda f: edit_settings(f, hidden=3), "settings: unknown model setting 'hidden'"),
    ("bad setting", lambda f: edit_settings(f, depth=-1), "settings: depth is -1"),
    ("setting of another type", lambda f: edit_settings(f, key_size="8"), "settings: key_size is '8'"),
    ("wider model", lambda f: edit_settings(f, key_size=1 << 20), "the settings in config.json give"),
    ("deeper model", lambda f: edit_settings(f, depth=3), "tensors of the architecture are missing"),
    ("depth without end", lambda f: edit_settings(f, depth=1 << 40), "depth 1099511627776 cannot be"),
    (
        "huge bins",
        lambda f: edit_settings(f, num_downsamples=1 << 40),
        "num_downsamples 1099511627776 cannot",
    ),
    ("huge context", lambda f: edit_settings(f, context_length=1 << 50), "context_length .* cannot be"),
]


@pytest.mark.parametrize(("damage", "message"), [d[1:] for d in DAMAGE], ids=[d[0] for d in DAMAGE])
def test_damage_is_refused(checkpoint: Path, damage: Callable[[Path], Any], message: str) -> None:
    damage(checkpoint)
    with pytest.raises(GexprError, match=message) as caught:
        checkpoints.load(checkpoint)
    assert isinstance(caught.value, CheckpointError)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("index\tid\tlabel\n0\ta\tx\n", "1 tracks, the model of config.json has 2 outputs"),
        ("index\tid\tlabel\n0\ta\tx\n2\tb\ty\n", r"index 2, expected 1"),
        ("index\tid\n0\ta\n", "line 1: column 'label' is missing"),
        ("index\tid\tlabel\tcolour\n", "line 1: unknown column 'colour'"),
        ("index\tid\tlabel\tid\n", "line 1: a column is named twice"),
        ("index\tid\tlabel\n0\ta\n", "line 2: 2 tab-separated fields, the header has 3"),
        ("index\tid\tlabel\nzero\ta\tx\n", "line 2: index 'zero' is not a whole number"),
        ("index\tid\tlabel\tscale\n0\ta\tx\tnan\n", "scale nan is not a positive number"),
        ("index\tid\tlabel\tstrand\n0\ta\tx\tplus\n", "strand 'plus' is none of"),
        ("index\tid\tlabel\ttransform\n0\ta\tx\texp\n", "transform 'exp' is none of"),
        ("index\tid\tlabel\tstrand_pair\n0\ta\tx\t9\n", "strand_pair 9 is not one of 0..0"),
        ("index\tid\tlabel\tstrand_pair\n0\ta\tx\t1\n1\tb\ty\t1\n", "the pair of that track is 1"),
        ("index\tid\tlabel\n0\ta\tx\n1\ta\ty\n", "the id is also that of track 0"),
        ("", "empty"),
    ],
)
def test_bad_tracks_are_refused(checkpoint: Path, content: str, message: str) -> None:
    (checkpoint / "tracks.tsv").write_text(content)
    with pytest.raises(InputError, match=message) as caught:
        checkpoints.load(checkpoint)
    assert "tracks.tsv" in str(caught.value)


def test_tracks_that_are_not_text_are_refused(checkpoint: Path) -> None:
    (checkpoint / "tracks.tsv").write_bytes(b"index\tid\tlabel\n0\t\xff\tx\n")
    with pytest.raises(InputError, match="byte 17: not UTF-8"):
        checkpoints.load(checkpoint)


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.target,))


@pytest.mark.parametrize("name", ["model.safetensors", "weights.pt", "model.bin", "last.ckpt"])
def test_nothing_is_executed(checkpoint: Path, tmp_path: Path, name: str) -> None:
    target = tmp_path / "executed"
    path = checkpoint / name
    torch.save({"state_dict": Bomb(target)}, path)
    with pytest.raises(CheckpointError, match="refused: a pickled PyTorch file"):
        checkpoints.load(checkpoint if name == "model.safetensors" else path)
    assert not target.exists()
    with open(path, "rb") as handle:
        torch.load(handle, weights_only=False)
    assert target.exists(), "the bomb of this test does not work"


def test_a_single_file_is_told_to_be_a_folder(checkpoint: Path) -> None:
    with pytest.raises(CheckpointError, match="a checkpoint is a folder; give "):
        checkpoints.load(checkpoint / "model.safetensors")
    with pytest.raises(CheckpointError, match="not a checkpoint, which is a folder"):
        checkpoints.load(checkpoint / "README.md")


def test_unknown_names_suggest_known_ones(monkeypatch: pytest.MonkeyPatch, checkpoint: Path) -> None:
    monkeypatch.setattr("gexpr.checkpoints.names.BUILTIN_FOLDER", checkpoint.parent)
    assert checkpoints.builtin_names() == ["tiny"]
    assert checkpoints.describe("tiny").path == checkpoint
    with pytest.raises(CheckpointError, match=r"no checkpoint 'tinny'.*did you mean 'tiny'"):
        checkpoints.load("tinny")


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_AS"), reason="no address space limit here")
def test_huge_claims_allocate_nothing(checkpoint: Path) -> None:
    """A header and settings that agree on a 64 GB tensor, in a process that may have 4 GB more."""
    size = 1 << 32

    def change(header: dict[str, Any]) -> None:
        name = next(name for name in header if name.startswith("heads") or "head" in name)
        header[name].update(shape=[2, 1 << 33], data_offsets=[0, 1 << 36])

    edit_header(checkpoint, change)
    edit_settings(checkpoint, final_channels=1 << 33)
    code = (
        "import resource, sys, torch, safetensors\n"
        "from gexpr import checkpoints\n"
        "from gexpr.errors import CheckpointError\n"
        "from gexpr.models import registry\n"
        "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        f"resource.setrlimit(resource.RLIMIT_AS, (used + {size}, used + {size}))\n"
        "try:\n"
        "    checkpoints.load(sys.argv[1])\n"
        "except CheckpointError as error:\n"
        "    print(error)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, str(checkpoint)], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert "more than the" in result.stdout
