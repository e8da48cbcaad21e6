"""The strongest rows of a file of scores against sorting all of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gexpr.errors import ConfigError, InputError
from gexpr.genome.places import parse_region
from gexpr.results import Track, Variant
from gexpr.runs import score_rows
from gexpr.runs.score_rows import Ranking, strongest_rows, write_ranked
from gexpr.writers.output import AtomicOutput
from gexpr.writers.scores import ScoreSchema, open_writer

ROWS = 5000
generator = np.random.default_rng(4)
TRACKS = tuple(
    Track(i, f"t{i}", f"Track {i}", "DNASE" if i < 3 else "CAGE", "K562" if i % 2 else "liver", strand_pair=i)
    for i in range(5)
)
# Few distinct values: most ranks are decided by ties.
VALUES = generator.integers(-40, 41, size=(ROWS, 5)).astype(np.float32) / 8
VALUES[generator.random(ROWS) < 0.1] = np.nan
VARIANTS = [
    Variant(
        row,
        0,
        f"chr{1 + row // 2000}",
        row % 2000 * 3 + 1,
        "." if row % 2 else f"rs{row}",
        "ACG" if row % 5 == 0 else "A",
        "T",
        "too_long" if np.isnan(VALUES[row, 0]) else "ok",
    )
    for row in range(ROWS)
]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    name = tmp_path_factory.mktemp("ranked") / "a.h5"
    with AtomicOutput(str(name)) as output:
        schema = ScoreSchema(TRACKS, ("SAD", "logFC"), {"statistics": "SAD,logFC"})
        writer = open_writer(output, "hdf5", schema)
        writer.write(VARIANTS, {"SAD": VALUES, "logFC": -VALUES[:, ::-1]})
        writer.commit()
    return str(name)


@pytest.fixture(params=[None, 4096], ids=["one block", "blocks"])
def blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param:
        monkeypatch.setattr("gexpr.writers.score_file._BLOCK_ROWS", request.param)


def sorted_rows(values: np.ndarray, by: str, count: int, rows: np.ndarray | None = None) -> list[int]:
    """Rows by a plain sort: strongest first, earlier first among equals."""
    key = {"abs": np.abs(values), "up": values, "down": -values}[by]
    fits = ~np.isnan(values) & ((key > 0) | (by == "abs"))
    if rows is not None:
        fits &= np.isin(np.arange(len(values)), rows)
    return sorted(np.flatnonzero(fits).tolist(), key=lambda row: (-key[row], row))[:count]


@pytest.mark.parametrize("by", ["abs", "up", "down"])
@pytest.mark.parametrize("count", [1, 7, 300, 6000])
def test_each_track_has_its_own_ranking(path: str, blocks: None, by: str, count: int) -> None:
    found = strongest_rows(path, count=count, by=by)
    for track in TRACKS:
        mine = [each for each in found if each.track.id == track.id]
        expected = sorted_rows(VALUES[:, track.index], by, count)
        assert [each.variant.row for each in mine] == expected
        assert [each.rank for each in mine] == list(range(1, len(expected) + 1))
        assert [each.score for each in mine] == VALUES[expected, track.index].tolist()
    assert [each.variant for each in found] == [VARIANTS[each.variant.row] for each in found]


def test_overall_counts_a_row_once_by_its_strongest_track(path: str, blocks: None) -> None:
    found = strongest_rows(path, count=40, overall=True, tracks="^t0")
    some = VALUES[:, 1:]
    strongest = np.where(np.isnan(some), -1, np.abs(some)).argmax(axis=1)
    best = some[np.arange(ROWS), strongest]
    expected = sorted_rows(best, "abs", 40)
    assert [each.variant.row for each in found] == expected
    assert [each.track.index for each in found] == (strongest[expected] + 1).tolist()
    assert [each.score for each in found] == best[expected].tolist()
    assert {each.statistic for each in found} == {"SAD"}


def test_regions_statistic_and_tracks_narrow_it(path: str, blocks: None) -> None:
    regions = [parse_region("2:1-3000"), parse_region("chr1:6,000-")]
    found = strongest_rows(
        path, count=9, statistic="DIFF_LOG2_SUM", tracks="assay:CAGE,^cell:K562", regions=regions, by="up"
    )
    inside = np.array(
        [
            v.row
            for v in VARIANTS
            if (v.chrom == "chr2" and v.pos <= 3000) or (v.chrom == "chr1" and v.pos + len(v.ref) - 1 >= 6000)
        ]
    )
    assert 900 < len(inside) < 1100
    assert {each.track.id for each in found} == {"t4"} and {each.statistic for each in found} == {"logFC"}
    assert [each.variant.row for each in found] == sorted_rows(-VALUES[:, 0], "up", 9, inside)


def test_what_is_kept_is_bounded(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(score_rows, "MOST_KEPT", 100)
    assert len(strongest_rows(path, count=20)) == 100
    with pytest.raises(ConfigError, match="21 rows of 5 tracks are more than the 100 scores"):
        strongest_rows(path, count=21)
    assert len(strongest_rows(path, count=100, overall=True)) == 100


def test_a_ranking_of_blocks_is_that_of_all_rows() -> None:
    values = generator.integers(-5, 6, size=(400, 3)).astype(np.float32)
    whole, parts = Ranking(3, 11), Ranking(3, 11)
    whole.add(values, np.arange(400))
    for start in range(0, 400, 7):
        parts.add(values[start : start + 7], np.arange(start, min(400, start + 7)))
    assert np.array_equal(whole.rows, parts.rows) and np.array_equal(whole.scores, parts.scores)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"statistic": "JS"}, ConfigError, r"a\.h5 has no JS; its statistics are SAD, logFC"),
        ({"statistic": "nope"}, ConfigError, "unknown statistic 'nope'"),
        ({"tracks": "t9"}, ConfigError, "no track matches 't9'; did you mean t"),
        ({"count": 0}, ConfigError, "at least 1 row"),
        ({"by": "size"}, ConfigError, "must be one of abs, up, down"),
        (
            {"regions": [parse_region("chr8:1-5")]},
            InputError,
            "no row lies on chr8; its contigs are chr1, chr2",
        ),
    ],
)
def test_faults(path: str, settings: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        strongest_rows(path, **settings)


def test_a_table_of_the_ranking(path: str, tmp_path: Path) -> None:
    found = strongest_rows(path, count=2, tracks="t1,t0")
    write_ranked(found, str(tmp_path / "a.tsv"))
    lines = [line.split("\t") for line in (tmp_path / "a.tsv").read_text().splitlines()]
    assert lines[0] == "rank track_id track_label statistic score chrom pos id ref alt".split()
    assert [line[:2] for line in lines[1:]] == [["1", "t1"], ["2", "t1"], ["1", "t0"], ["2", "t0"]]
    first = VARIANTS[sorted_rows(VALUES[:, 1], "abs", 1)[0]]
    score = str(VALUES[first.row, 1])
    assert lines[1][2:] == [
        "Track 1",
        "SAD",
        score,
        first.chrom,
        str(first.pos),
        first.id,
        first.ref,
        first.alt,
    ]
