"""Rows that come in other blocks give the same bytes, whatever the sizes of chunks are."""

from __future__ import annotations

import functools
import io
import itertools
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gexpr.results import Region, Track, Variant
from gexpr.writers import hdf5
from gexpr.writers.output import AtomicOutput
from gexpr.writers.predictions import PredictionBlock, PredictionSchema
from gexpr.writers.predictions import open_writer as open_predictions
from gexpr.writers.scores import ScoreSchema
from gexpr.writers.scores import open_writer as open_scores

ROWS = 40
TRACKS = tuple(Track(index, f"t{index}", f"Track {index}") for index in range(3))


@pytest.fixture(scope="module", autouse=True)
def small_chunks() -> Iterator[None]:
    """Chunks of 7 strings, 8 wide numbers, 5 rows of scores: no size divides another."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hdf5, "STRING_CHUNK", 7)
        patch.setattr(hdf5, "CHUNK_BYTES", 64)
        yield


def blocks(cuts: list[int], rows: int) -> list[slice]:
    edges = [0, *sorted(cuts), rows]
    return [slice(low, high) for low, high in itertools.pairwise(edges) if low < high]


def score_bytes(name: str, cuts: list[int], rows: int = ROWS, long: bool = False) -> bytes:
    rng = np.random.default_rng(rows)
    variants = [Variant(i, i + 2, "chr1", 100 + i, f"rs{i}" * (i % 5), "A", "C", "ok") for i in range(rows)]
    scores = {name: rng.normal(size=(rows, 3)).astype(np.float32) for name in ("logFC", "SAD")}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        with AtomicOutput(str(path)) as output:
            schema = ScoreSchema(TRACKS, ("logFC", "SAD"), {"device": "cpu"})
            writer = open_scores(output, "hdf5" if name == "a.h5" else "tsv", schema, long=long)
            for each in blocks(cuts, rows):
                writer.write(variants[each], {key: values[each] for key, values in scores.items()})
            writer.commit()
        return path.read_bytes()


@functools.cache
def whole(name: str, long: bool = False) -> bytes:
    return score_bytes(name, [], long=long)


def prediction_bytes(bins: list[int], cuts: list[int]) -> bytes:
    rng = np.random.default_rng(len(bins))
    rows = len(bins)
    regions = [Region("chr1", 10 * i, 10 * i + 9, f"r{i}" * (i % 4), ".", "+-"[i % 2]) for i in range(rows)]
    values = [rng.random((n, 3)).astype(np.float32) for n in bins]
    spans = [(region.start - 1, n) for region, n in zip(regions, bins, strict=True)]
    equal = bins[0] if len(set(bins)) == 1 else None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.h5"
        with AtomicOutput(str(path)) as output:
            writer = open_predictions(output, "hdf5", PredictionSchema(equal, 4, TRACKS, {}))
            for each in blocks(cuts, rows):
                sums = np.stack([value.sum(axis=0) for value in values[each]])
                block = PredictionBlock(regions[each], spans[each], np.concatenate(values[each]), sums)
                writer.write(block)
            writer.commit()
        return path.read_bytes()


cut_lists = st.lists(st.integers(1, ROWS - 1), max_size=ROWS, unique=True)


@settings(max_examples=20, deadline=None)
@given(cuts=cut_lists)
def test_scores_in_hdf5(cuts: list[int]) -> None:
    assert score_bytes("a.h5", cuts) == whole("a.h5")


@settings(max_examples=10, deadline=None)
@given(cuts=cut_lists)
@pytest.mark.parametrize(("name", "long"), [("a.tsv", False), ("a.tsv.gz", False), ("a.tsv", True)])
def test_scores_in_tsv(name: str, long: bool, cuts: list[int]) -> None:
    assert score_bytes(name, cuts, long=long) == whole(name, long)


@settings(max_examples=10, deadline=None)
@given(cuts=cut_lists)
def test_predictions_with_equal_bins(cuts: list[int]) -> None:
    assert prediction_bytes([2] * ROWS, cuts) == prediction_bytes([2] * ROWS, [])


@settings(max_examples=10, deadline=None)
@given(cuts=cut_lists, bins=st.lists(st.integers(1, 12), min_size=ROWS, max_size=ROWS))
def test_predictions_with_other_bins(cuts: list[int], bins: list[int]) -> None:
    assert prediction_bytes(bins, cuts) == prediction_bytes(bins, [])


def test_the_content_is_that_of_one_append() -> None:
    rng = np.random.default_rng(1)
    numbers = rng.integers(0, 100, (ROWS, 3)).astype(np.int64)
    words = [f"w{i}".encode() for i in range(ROWS)]
    image = io.BytesIO()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.h5"
        with AtomicOutput(str(path)) as output:
            file = hdf5.Hdf5Output(output)
            file.growing("numbers", (3,), "int64")
            file.growing_strings("words")
            for low in range(0, ROWS, 9):
                rows = slice(low, low + 9)
                file.append_rows({"numbers": numbers[rows], "words": words[rows]})
            file.commit()
        image.write(path.read_bytes())
    with h5py.File(image) as stored:
        assert stored["numbers"].chunks == (2, 3) and stored["words"].chunks == (7,)
        assert np.array_equal(stored["numbers"][:], numbers)
        assert stored["words"][:].tolist() == words


@pytest.mark.parametrize("rows", [0, 1, 7, 8, 35, 36])
def test_row_counts_around_the_ends_of_chunks(rows: int) -> None:
    every = list(range(1, rows))
    with h5py.File(io.BytesIO(score_bytes("a.h5", every, rows))) as file:
        assert file["logFC"].shape == (rows, 3) and file["snp"].shape == (rows,)
        assert file["pos"][:].tolist() == [100 + i for i in range(rows)]
    assert score_bytes("a.h5", every, rows) == score_bytes("a.h5", [], rows)


@pytest.mark.parametrize("dtype", ["float16", "float32", "int64"])
@pytest.mark.parametrize("ahead", [0, 1, 100])
def test_chunks_that_wait_for_their_compression(
    ahead: int, dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many chunks at a time, few, and parts of one; with the numbers of another dataset in between."""
    monkeypatch.setattr(hdf5, "_AHEAD", ahead)
    numbers = np.random.default_rng(2).normal(0, 100, (700, 3)).astype(dtype)
    with AtomicOutput(str(tmp_path / "a.h5")) as output:
        file = hdf5.Hdf5Output(output)
        for name in ("a", "b"):
            file.growing(name, (3,), dtype)
        for low, high in itertools.pairwise([0, 1, 2, 500, 501, 520, 700]):
            file.append("a", numbers[low:high])
            file.append("b", -numbers[low:high])
        file.commit()
    with h5py.File(tmp_path / "a.h5") as stored:
        assert np.array_equal(stored["a"][:], numbers) and np.array_equal(stored["b"][:], -numbers)
        chunks = [stored["a"].id.get_chunk_info(i) for i in range(stored["a"].id.get_num_chunks())]
        assert len(chunks) > 5 and all(chunk.filter_mask == 0 for chunk in chunks)


def test_a_file_that_is_given_up_while_chunks_wait(tmp_path: Path) -> None:
    before = threading.active_count()
    with AtomicOutput(str(tmp_path / "a.h5")) as output:
        file = hdf5.Hdf5Output(output)
        file.growing("a", (3,), "float32")
        file.append("a", np.ones((20, 3), dtype=np.float32))
        file.discard()
        file.discard()
    assert list(tmp_path.iterdir()) == [] and threading.active_count() == before
