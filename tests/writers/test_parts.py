"""A part is what was written, or it is refused."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import string
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from gexpr.errors import GexprError
from gexpr.writers.output import temporary_name
from gexpr.writers.parts import DamagedPartError, Part, read_part, write_part

ABOUT = {"run": "0" * 64, "block": 3, "columns": {"id": ["rs1", "é", "\udcff", 'a"b\n'], "pos": [1, 2**40]}}
ARRAYS = {
    "logFC": np.float32([[1.5, np.nan], [-np.inf, 0.0]]),
    "half": np.float16([[0.1], [np.nan]]),
    "none": np.zeros((0, 4), np.float32),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "000003.part"
    write_part(path, Part(ARRAYS, ABOUT))
    return path


def test_a_part_comes_back(path: Path) -> None:
    part = read_part(path)
    assert part.about == ABOUT and list(part.arrays) == list(ARRAYS)
    for name, values in ARRAYS.items():
        assert part.arrays[name].dtype == values.dtype
        assert np.array_equal(part.arrays[name], values, equal_nan=True)
    assert os.listdir(path.parent) == [path.name]


def test_the_size_is_told_and_equal_parts_have_equal_bytes(path: Path, tmp_path: Path) -> None:
    size = write_part(tmp_path / "again.part", Part(ARRAYS, ABOUT))
    assert size == path.stat().st_size
    assert (tmp_path / "again.part").read_bytes() == path.read_bytes()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
names = st.text(string.ascii_letters + "_", min_size=1, max_size=5).filter(lambda name: name != "about")
tables = npst.arrays(st.sampled_from(["<f4", "<f2"]), npst.array_shapes(max_dims=2, min_side=0, max_side=4))


@settings(max_examples=15, deadline=None)
@given(
    arrays=st.dictionaries(names, tables, max_size=3),
    about=st.dictionaries(st.text(), json_values, max_size=3),
)
def test_any_part_comes_back(arrays: dict[str, np.ndarray], about: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_part(Path(folder) / "a.part", Part(arrays, about))
        part = read_part(Path(folder) / "a.part")
    assert part.about == about and list(part.arrays) == list(arrays)
    for name, values in arrays.items():
        assert part.arrays[name].dtype == values.dtype and part.arrays[name].shape == values.shape
        assert part.arrays[name].tobytes() == values.tobytes()


def test_every_flipped_byte_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "small.part"
    write_part(path, Part({"x": np.float32([1, 2])}, {"block": 0}))
    data = path.read_bytes()
    for index in range(len(data)):
        damaged = bytearray(data)
        damaged[index] ^= 1 << index % 8
        path.write_bytes(damaged)
        with pytest.raises(DamagedPartError, match=r"small\.part is damaged"):
            read_part(path)


def test_a_part_that_was_cut_short_or_grew_is_refused(path: Path) -> None:
    data = path.read_bytes()
    for size in [0, 1, 12, 13, 77, 78, *range(79, len(data), 97), len(data) - 1]:
        path.write_bytes(data[:size])
        with pytest.raises(DamagedPartError):
            read_part(path)
    for more in (b"\0", b"\n", data):
        path.write_bytes(data + more)
        with pytest.raises(DamagedPartError):
            read_part(path)


@pytest.mark.parametrize(
    "content",
    [b"", b"\n", b"gexpr part 1 \n", b"gexpr part 2 " + b"0" * 64 + b"\n", b"\0" * 500, b"text\nmore\n"],
)
def test_another_file_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.part").write_bytes(content)
    with pytest.raises(DamagedPartError):
        read_part(tmp_path / "a.part")


def test_a_part_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(GexprError, match=r"cannot read .*a\.part: No such file") as caught:
        read_part(tmp_path / "a.part")
    assert not isinstance(caught.value, DamagedPartError)


class Trap:
    """Unpickling this is a crime."""

    def __reduce__(self) -> tuple[Any, ...]:
        return pytest.fail, ("a pickle was loaded",)


def test_no_pickle_is_written_or_loaded(tmp_path: Path) -> None:
    objects = np.array([Trap()], dtype=object)
    with pytest.raises(ValueError, match="allow_pickle"):
        write_part(tmp_path / "a.part", Part({"x": objects}, {}))
    assert os.listdir(tmp_path) == []
    archive = io.BytesIO()
    about = np.frombuffer(json.dumps({}).encode(), np.uint8)
    np.savez(archive, about=about, x=objects)
    for payload in (archive.getvalue(), pickle.dumps(Trap())):
        head = b"gexpr part 1 " + hashlib.sha256(payload).hexdigest().encode() + b"\n"
        (tmp_path / "a.part").write_bytes(head + payload)
        with pytest.raises(ValueError, match="pickle"):
            read_part(tmp_path / "a.part")


def test_an_array_called_about_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="about"):
        write_part(tmp_path / "a.part", Part({"about": np.zeros(1)}, {}))


def test_an_existing_part_is_replaced_by_the_next(path: Path) -> None:
    write_part(path, Part({}, {"block": 9}))
    assert read_part(path) == Part({}, {"block": 9})


def test_a_full_disk_leaves_no_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file, data) -> None:
        file.write(bytes(data)[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("gexpr.writers.output.write_all", full)
    with pytest.raises(GexprError, match=r"cannot write .*a\.part: No space left on device"):
        write_part(tmp_path / "a.part", Part(ARRAYS, ABOUT))
    assert os.listdir(tmp_path) == []


def test_what_a_killed_process_left_is_no_part(path: Path) -> None:
    temporary = temporary_name(path)
    temporary.write_bytes(b"half")
    assert temporary.parent == path.parent and temporary.name.startswith(".") and temporary != path
    assert read_part(path).about == ABOUT
