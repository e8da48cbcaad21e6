"""Selecting tracks by id, label, pattern, index and range."""

from __future__ import annotations

import pytest

from gexpr.errors import ConfigError
from gexpr.results import Track
from gexpr.scoring.tracks import select_tracks

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
        ("wt_pluss", "no track matches 'wt_pluss'; close to it: .*wt_plus"),
        ("5", "indices are 0 to 4"),
        ("3-9", "indices are 0 to 4"),
        ("*cage*", "no track matches '\\*cage\\*'"),
        ("wt_plus,diamid", "'diamid'.*diamide_plus"),
    ],
)
def test_what_matches_nothing_is_told_with_what_is_near(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        select_tracks(TRACKS, text)
