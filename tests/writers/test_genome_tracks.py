"""bigWig and bedGraph of predictions: averages, ends of contigs, order, names."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gexpr.errors import GexprError
from gexpr.results import Track
from gexpr.writers import genome_tracks
from gexpr.writers.genome_tracks import GenomeTracks, TrackOutput, track_file_names
from gexpr.writers.output import AtomicOutput

CONTIGS = [("chr2", 100), ("chr10", 47), ("empty", 9)]
Piece = tuple[str, int, int, Any]


def written(folder: Path, pieces: Sequence[Piece], columns: int = 1, name: str = "a") -> list[Path]:
    """Files of the last column in both formats: bedGraph, bigWig."""
    paths = [folder / f"{name}.bedGraph.gz", folder / f"{name}.bw"]
    claimed = [AtomicOutput(str(path)) for path in paths]
    outputs = [
        TrackOutput(each, format, columns - 1)
        for each, format in zip(claimed, ("bedgraph", "bigwig"), strict=True)
    ]
    tracks = GenomeTracks(outputs, CONTIGS, columns, 10, str(folder))
    try:
        for contig, start, region, values in pieces:
            tracks.add(contig, start, region, np.asarray(values, np.float32).reshape(-1, columns))
        tracks.finish()
        for each in claimed:
            each.commit()
    finally:
        tracks.discard()
        for each in claimed:
            each.discard()
    return paths


def lines(path: Path) -> list[str]:
    return gzip.decompress(path.read_bytes()).decode().splitlines()


def intervals(path: Path) -> list[tuple[str, int, int, float]]:
    import pyBigWig

    with pyBigWig.open(str(path)) as file:
        assert file.chroms() == dict(CONTIGS)
        return [(name, *each) for name in sorted(file.chroms()) for each in file.intervals(name) or ()]


def test_overlaps_are_averaged_and_ends_cut(tmp_path: Path) -> None:
    pieces = [
        ("chr2", 80, 0, [1, 2, 4]),  # 80 to 110: cut at 100
        ("chr10", -4, 1, [8, 16]),  # -4 to 16: cut at 0
        ("chr2", 85, 2, [5]),  # over the halves of two bins
        ("chr2", 0, 3, [7]),
    ]
    expected = [
        ("chr10", 0, 6, 8.0),
        ("chr10", 6, 16, 16.0),
        ("chr2", 0, 10, 7.0),
        ("chr2", 80, 85, 1.0),
        ("chr2", 85, 90, 3.0),
        ("chr2", 90, 95, 3.5),
        ("chr2", 95, 100, 2.0),
    ]
    graph, wig = written(tmp_path, pieces)
    assert intervals(wig) == expected
    assert lines(graph) == ["\t".join(map(str, each)) for each in expected]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.bedGraph.gz", "a.bw"]


@pytest.mark.parametrize("bins", [1, 2, 3])
def test_sweeps_of_any_length_say_the_same(bins: int, tmp_path: Path, monkeypatch) -> None:
    draw = np.random.default_rng(4)
    pieces: list[Piece] = []
    for region in range(12):
        contig, length = CONTIGS[region % 2]
        pieces.append((contig, int(draw.integers(-5, length - 5)), region, draw.random((4, 3))))
    whole = written(tmp_path, pieces, 3, "whole")
    sums: dict[str, Any] = {name: np.zeros((2, length)) for name, length in CONTIGS}
    for contig, start, _, values in pieces:
        for base in range(max(0, start), min(dict(CONTIGS)[contig], start + 40)):
            sums[contig][:, base] += np.float32(values)[(base - start) // 10, 2], 1
    found = {name: np.zeros(length) for name, length in CONTIGS}
    for name, low, high, value in intervals(whole[1]):
        found[name][low:high] = value
    for name in found:
        assert np.allclose(found[name], sums[name][0] / np.maximum(sums[name][1], 1))
    monkeypatch.setattr(genome_tracks, "_SWEEP_BINS", bins)
    cut = written(tmp_path, pieces, 3, "cut")
    assert cut[0].read_bytes() == whole[0].read_bytes()
    assert intervals(cut[1]) == intervals(whole[1])
    # Nor does the order in which regions come in matter: their numbers do.
    turned = written(tmp_path, pieces[::-1], 3, "turned")
    assert turned[0].read_bytes() == whole[0].read_bytes()


def test_a_region_in_parts_is_one(tmp_path: Path) -> None:
    whole = written(tmp_path, [("chr2", 0, 0, [1, 2, 3, 4])], name="whole")
    parts = written(tmp_path, [("chr2", 0, 0, [1, 2]), ("chr2", 20, 0, [3, 4])], name="parts")
    for one, other in zip(whole, parts, strict=True):
        assert one.read_bytes() == other.read_bytes()


def test_more_bins_than_a_block_of_the_format_holds(tmp_path: Path) -> None:
    output = AtomicOutput(str(tmp_path / "a.bw"))
    tracks = GenomeTracks([TrackOutput(output, "bigwig", 0)], [("c", 200_005)], 1, 1, str(tmp_path))
    values = (np.arange(200_005) % 977).astype(np.float32)
    tracks.add("c", 0, 0, values[:, None])
    tracks.finish()
    output.commit()
    import pyBigWig

    with pyBigWig.open(str(tmp_path / "a.bw")) as file:
        assert np.array_equal(file.values("c", 0, 200_005, numpy=True), values)
        assert file.stats("c", 0, 200_005, exact=True)[0] == pytest.approx(values.mean(dtype=float))


def test_no_regions(tmp_path: Path) -> None:
    graph, wig = written(tmp_path, [])
    assert lines(graph) == [] == intervals(wig)


def test_what_is_not_finite_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GexprError, match=r"chr2:10-30: a value is too large.*--dtype float32"):
        written(tmp_path, [("chr2", 10, 0, [1, np.inf])])
    assert list(tmp_path.iterdir()) == []


def test_names_of_files() -> None:
    def names(*ids: str) -> list[str]:
        return track_file_names([Track(i, each, "") for i, each in enumerate(ids)], "bigwig")

    assert names("a", "b c/d", ".x", "") == ["a.bw", "b_c_d.bw", "_.x.bw", "_.bw"]
    assert names("a", "A", "b") == ["a.0.bw", "A.1.bw", "b.bw"]
    assert names("a", "A", "a.0") == ["0.a.bw", "1.A.bw", "2.a.0.bw"]
