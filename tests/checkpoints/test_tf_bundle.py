"""TensorFlow checkpoints are read without TensorFlow; damage is named."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tf_writer import snap, write_bundle

from gexpr.checkpoints.tf_bundle import TensorBundle, unsnap
from gexpr.errors import CheckpointError
from gexpr.wire import masked_crc


def tensors() -> dict[str, np.ndarray | bytes]:
    draw = np.random.default_rng(3)
    found: dict[str, np.ndarray | bytes] = {
        f"module/_trunk/_layers/{number}/w/.ATTRIBUTES/VARIABLE_VALUE": draw.normal(size=(3, number + 1))
        for number in range(45)
    }
    found["half"] = draw.normal(size=(2, 3, 4)).astype(np.float16)
    found["single"] = draw.normal(size=7).astype(np.float32)
    found["scalar"] = np.array(5, dtype=np.int64)
    found["empty"] = np.zeros((0, 4), dtype=np.float32)
    found["_CHECKPOINTABLE_OBJECT_GRAPH"] = b"\x05graph"
    return found


@pytest.mark.parametrize("compress", [False, True])
def test_every_tensor_comes_back(compress: bool, tmp_path: Path) -> None:
    written = tensors()
    write_bundle(tmp_path / "model-1", written, compress=compress)
    for path in ("model-1", "model-1.index", "model-1.data-00000-of-00001"):
        bundle = TensorBundle(tmp_path / path)
        assert sorted(bundle) == sorted(written) and len(bundle) == len(written)
    for name, value in written.items():
        assert bundle.readable(name) is not isinstance(value, bytes)
        if not isinstance(value, bytes):
            assert bundle[name].dtype == value.dtype
            np.testing.assert_array_equal(bundle[name], value)
    with pytest.raises(CheckpointError, match="GRAPH is of type 7, which holds no num"):
        bundle["_CHECKPOINTABLE_OBJECT_GRAPH"]


def test_known_checksums() -> None:
    # RFC 3720, B.4: 32 bytes of zeros, and of ones
    assert masked_crc(b"") == 0xA282EAD8
    for raw, crc in ((b"\x00" * 32, 0x8A9136AA), (b"\xff" * 32, 0x62A8AB43)):
        expected = (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF
        assert masked_crc(raw) == masked_crc(raw[:5], raw[5:]) == expected


def test_known_compressed_bytes() -> None:
    # google/snappy, format_description.txt: "xababab" as a literal and an overlapping copy
    assert unsnap(bytes([7, 2 << 2, *b"xab", (4 - 1) << 2 | 2, 2, 0])) == b"xababab"
    assert unsnap(b"\0") == b""


@given(st.binary(max_size=300), st.integers(1, 9))
def test_compressed_bytes_come_back(piece: bytes, times: int) -> None:
    assert unsnap(snap(piece * times)) == piece * times


def test_long_literals_and_distances_come_back() -> None:
    noise = random.Random(1).randbytes(100_000)
    assert unsnap(snap(noise + noise[:50])) == noise + noise[:50]


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (bytes([5, 2 << 2, *b"abc"]), "give 3 bytes instead of 5"),
        (bytes([3, 9 << 2, *b"abc"]), "end inside a literal"),
        (bytes([9, 0, 97, 3 << 2 | 2, 2, 0]), "refer to what is not there"),
        (bytes([9, 0, 97, 3 << 2 | 2, 2]), "end inside a copy"),
        (bytes([0xFF] * 11), "more than 64 bits"),
        (bytes([0xFF, 0xFF, 0xFF, 0xFF, 0x0F, 0]), "claims"),
    ],
)
def test_bad_compressed_bytes(raw: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        unsnap(raw)


def test_files_that_are_missing_or_damaged(tmp_path: Path) -> None:
    prefix = tmp_path / "model"
    with pytest.raises(CheckpointError, match=r"model.index: cannot be read: No such file"):
        TensorBundle(prefix)
    write_bundle(prefix, tensors())
    index, data = (tmp_path / f"model.{each}" for each in ("index", "data-00000-of-00001"))
    raw, numbers = index.read_bytes(), data.read_bytes()
    name = "single"

    data.write_bytes(numbers[:-40])
    with pytest.raises(CheckpointError, match=f"truncated: {name} should end at byte"):
        TensorBundle(prefix)[name]
    data.write_bytes(numbers[:-12] + b"\x01" + numbers[-11:])
    with pytest.raises(CheckpointError, match=f"the checksum of {name} is wrong"):
        TensorBundle(prefix)[name]
    data.unlink()
    with pytest.raises(CheckpointError, match="data-00000-of-00001: cannot be read"):
        TensorBundle(prefix)[name]

    for damaged, message in (
        (raw[:-1], "its last bytes are not a table's"),
        (b"", "its last bytes"),
        (raw[:100] + bytes([raw[100] ^ 1]) + raw[101:], "the checksum of a block is wrong"),
        (b"PK\x03\x04" + raw[:40], "its last bytes"),
    ):
        index.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=f"not an index of a TensorFlow checkpoint: {message}"):
            TensorBundle(prefix)


def test_any_byte_may_be_wrong(tmp_path: Path) -> None:
    """Whatever is changed or cut off, the answer is an error of ours or the same tensors."""
    written = {"a/b": np.arange(6.0), "a/c": np.ones((2, 2), dtype=np.float32), "d": b"text"}
    prefix = tmp_path / "model"
    write_bundle(prefix, written, compress=True, pairs_a_block=2)
    index = tmp_path / "model.index"
    raw = index.read_bytes()
    refused = 0
    for place in range(len(raw)):
        for damaged in (raw[:place], raw[:place] + bytes([raw[place] ^ 0xFF]) + raw[place + 1 :]):
            index.write_bytes(damaged)
            try:
                bundle = TensorBundle(prefix)
                np.testing.assert_array_equal(bundle["a/b"], written["a/b"])
            except CheckpointError:
                refused += 1
    # Only the end's padding, and where the unused index of indices lies, do not matter.
    assert refused > 1.7 * len(raw)
