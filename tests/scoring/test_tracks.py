"""Selecting tracks: by name, pattern, index, field, regular expression, file, and what is left out."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from gexpr.errors import ConfigError, GexprError, InputError
from gexpr.results import Track
from gexpr.scoring.tracks import name_places, places_named, read_selection, select_tracks

TRACKS = [
    Track(i, name, label)
    for i, (name, label) in enumerate(
        [
            ("wt_plus", "Wild type, + strand"),
            ("wt_minus", "Wild type, - strand"),
            ("diamide_plus", "Diamide, + strand"),
            ("diamide_minus", "Diamide, - strand"),
            ("12", "A numeric id"),
        ]
    )
]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, [0, 1, 2, 3, 4]),
        ("", [0, 1, 2, 3, 4]),
        ("wt_minus", [1]),
        ("diamide_plus,wt_plus", [2, 0]),
        ("3", [3]),
        ("0-2", [0, 1, 2]),
        ("1-2,2,0", [1, 2, 0]),
        ("*_plus", [0, 2]),
        ("DIAMIDE*", [2, 3]),
        ("wild type, + strand", [0]),
        ("12", [4]),
        ("diamide_[mp]*", [2, 3]),
    ],
)
def test_selection(text: str | None, expected: list[int]) -> None:
    assert select_tracks(TRACKS, text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("wt_pluss", "no track matches 'wt_pluss'; did you mean wt_plus, .*\\?"),
        ("5", "indices are 0 to 4"),
        ("3-9", "indices are 0 to 4"),
        ("*cage*", "no track matches '\\*cage\\*'"),
        ("wt_plus,diamid", "'diamid'.*diamide_plus"),
    ],
)
def test_what_matches_nothing_is_told_with_what_is_near(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        select_tracks(TRACKS, text)


def named(*rows: tuple[str, str, str, str]) -> list[Track]:
    return [Track(i, id, label, assay, cell) for i, (id, label, assay, cell) in enumerate(rows)]


RICH = named(
    ("E1", "DNASE:K562", "DNASE", "K562"),
    ("E2", "DNASE:GM12878", "DNASE", "GM12878"),
    ("E3", "CHIP:H3K4me3:K562", "CHIP", "H3K4me3:K562"),
    ("F1+", "CAGE:liver, adult", "CAGE", "liver, adult"),
    ("F1-", "CAGE:liver, adult", "CAGE", "liver, adult"),
    ("X", "unknown", "", ""),
    ("^odd", "donor #2", "TF ChIP", "k562"),
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("assay:DNASE", [0, 1]),
        ("ASSAY:dnase", [0, 1]),
        ("assay: tf chip", [6]),
        ("cell:K562", [0, 6]),
        ("cell_type:k562,E3", [0, 6, 2]),
        ("celltype:*K562", [0, 2, 6]),
        ("cell:liver\\, adult", [3, 4]),
        ("assay:", [5]),
        ("re:^F1[+]$", [3]),
        ("re:dnase|cage", [0, 1, 3, 4]),
        ("re:[MF][1-9]{1\\,2}[0-9+],E1", [1, 3, 0]),
        ("re:k562$,^assay:CHIP", [0]),
        ("^cell:K562", [1, 2, 3, 4, 5]),
        ("^assay:,^0-4", [6]),
        ("^E1,assay:DNASE", [1]),
        ("assay:DNASE, ^ E1", [1]),
        ("^odd", [6]),
        ("^^odd", [0, 1, 2, 3, 4, 5]),
        ("CAGE:liver, adult", [3, 4]),
        ("cage:liver\\, adult,E1", [3, 4, 0]),
        ("0-1,^*GM*", [0]),
    ],
)
def test_fields_expressions_and_exclusions(text: str, expected: list[int]) -> None:
    assert select_tracks(RICH, text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("assay:DNAS", "no track has the assay 'DNAS'; did you mean DNASE\\?"),
        ("cell:GM", "no track has the cell type 'GM'; did you mean .*GM12878"),
        ("cell:zzzzzz", "no track has the cell type 'zzzzzz'; there are K562, GM12878, "),
        ("re:(", "'re:\\(' is not a regular expression: .*position 0"),
        ("re:nothing like it", "no track matches 're:nothing like it'"),
        ("E1,^E1", "--tracks 'E1,\\^E1' leaves out every track it names"),
        ("^E9", "no track matches 'E9'; did you mean E"),
        ("^*", "leaves out every track"),
        (",", "names no track"),
    ],
)
def test_parts_that_name_nothing(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        select_tracks(RICH, text)


def test_a_table_without_the_column_says_so() -> None:
    with pytest.raises(
        ConfigError, match=r"names no cell type \(its column cell_type is empty\).*'\*K562\*'"
    ):
        select_tracks(TRACKS, "cell:K562")
    with pytest.raises(ConfigError, match="no track is without assay"):
        select_tracks(RICH[:3], "assay:")


def test_a_selection_that_only_leaves_out_starts_from_the_default() -> None:
    assert select_tracks(RICH, "^E2", default=[1, 2]) == [2]
    assert select_tracks(RICH, None, default=[1, 2]) == [1, 2]
    assert select_tracks(RICH, "E1,^E2", default=[1, 2]) == [0]


def test_a_file_holds_one_part_a_line(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("# liver first\nCAGE:liver, adult   # both strands\n\n  ^F1-\r\ndonor #2\nassay:CHIP\n")
    assert select_tracks(RICH, f"@{path}") == [3, 6, 2]
    assert select_tracks(RICH, f"E1,@{path},^E3") == [0, 3, 6]
    path.write_text("assay:DNASE\nX\n")
    assert select_tracks(RICH, f"^@{path}") == [2, 3, 4, 6]


def test_a_selection_outlives_its_file(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("E2\n")
    selection = read_selection(f"@{path}")
    path.unlink()
    assert select_tracks(RICH, pickle.loads(pickle.dumps(selection))) == [1]
    assert read_selection(selection) is selection
    assert read_selection(" ") is None


@pytest.mark.parametrize(
    ("content", "prefix", "message"),
    [
        ("E1\nE22\n", "@", "list.txt, line 2: no track matches 'E22'; did you mean E"),
        ("\n# x\n", "@", "list.txt: names no track"),
        ("E1\n@other\n", "@", "list.txt, line 2: a list of tracks cannot name another"),
        ("^E1\n", "^@", "list.txt, line 1: '\\^E1' in a list that is left out"),
        ("E1\ncell:zz\n", "@", "list.txt, line 2: no track has the cell type 'zz'"),
        ("re:[\n", "@", "list.txt, line 1: 're:\\[' is not a regular expression"),
        ("", "@", "list.txt.*empty"),
    ],
)
def test_faults_of_a_file_are_told_with_its_line(
    tmp_path: Path, content: str, prefix: str, message: str
) -> None:
    path = tmp_path / "list.txt"
    path.write_text(content)
    with pytest.raises(InputError, match=message):
        select_tracks(RICH, f"{prefix}{path}")


def test_a_missing_file_of_tracks(tmp_path: Path) -> None:
    with pytest.raises(GexprError, match=r"no-such\.txt"):
        select_tracks(RICH, f"@{tmp_path}/no-such.txt")


def test_places_are_named_and_read_back() -> None:
    assert name_places([0, 1, 2, 3, 7, 5, 6]) == "0-3,7,5-6"
    assert places_named("0-3,7,5-6", 7) == [0, 1, 2, 3, 7, 5, 6]
    assert places_named("0-3,7", 4) is None and places_named("0-999999999", 10) is None
    digest = name_places(range(0, 2000, 2))
    assert digest.startswith("1000 tracks, SHA-256 ") and places_named(digest, 1000) is None
