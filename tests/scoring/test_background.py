"""Signed quantiles against their definition, counted out."""

from __future__ import annotations

import numpy as np
import pytest

from gexpr.scoring.background import (
    MOST_POINTS,
    TOP_POINTS,
    QuantileTable,
    kept_ranks,
    make_table,
    signed_quantiles,
)


def table_of(scores: np.ndarray, columns: int = 2) -> QuantileTable:
    return make_table(lambda first, last: scores[:, first:last], scores.shape[1], len(scores), columns)


def counted(score: float, background: np.ndarray) -> float:
    size = np.abs(background.astype(np.float32))
    below, equal = (size < abs(score)).sum(), (size == abs(score)).sum()
    return float(np.sign(score) * (below + equal / 2) / len(size))


def test_a_score_is_ranked_by_magnitude_and_keeps_its_sign():
    background = np.array([[-4.0], [1.0], [2.0], [-3.0]])
    asked = np.array([[2.5], [-2.5], [10.0], [-10.0], [0.0], [0.5], [np.nan]])
    assert signed_quantiles(asked, table_of(background))[:, 0] == pytest.approx(
        [0.5, -0.5, 1.0, -1.0, 0.0, 0.0, np.nan], nan_ok=True
    )


def test_equal_magnitudes_count_half():
    background = np.array([[1.0], [-1.0], [1.0], [2.0]])
    asked = np.array([[1.0], [-1.0], [2.0], [0.9], [1.1]])
    expected = [3 / 8, -3 / 8, 7 / 8, 0.0, 3 / 4]
    assert signed_quantiles(asked, table_of(background))[:, 0] == pytest.approx(expected)


def test_all_zeros_and_one_variant():
    zeros = table_of(np.zeros((5, 1)))
    assert signed_quantiles(np.array([[0.0], [-0.1]]), zeros)[:, 0] == pytest.approx([0.0, -1.0])
    one = table_of(np.array([[0.5]]))
    assert signed_quantiles(np.array([[0.1], [0.5], [-0.6]]), one)[:, 0] == pytest.approx([0.0, 0.5, -1.0])


@pytest.mark.parametrize("columns", [1, 3, 8])
def test_small_backgrounds_are_exact_for_every_track(columns):
    draw = np.random.default_rng(3)
    background = draw.normal(size=(400, 5)).round(1).astype(np.float32)
    asked = np.concatenate([background[:50], draw.normal(size=(50, 5))]).astype(np.float32)
    table = table_of(background, columns)
    assert table.exact
    found = signed_quantiles(asked, table)
    for track in range(5):
        # Between points nothing lies, so that interpolating adds nothing.
        expected = [counted(score, background[:, track]) for score in asked[:, track]]
        assert found[:, track] == pytest.approx(expected, abs=1e-6)


def test_large_backgrounds_are_as_exact_as_stated():
    draw = np.random.default_rng(4)
    background = draw.standard_t(2, size=(60_000, 2)).astype(np.float32)
    table = table_of(background)
    assert not table.exact and table.magnitudes.shape == (MOST_POINTS, 2)
    asked = draw.standard_t(2, size=(300, 2)).astype(np.float32)
    found = signed_quantiles(asked, table)
    for track in range(2):
        expected = np.array([counted(score, background[:, track]) for score in asked[:, track]])
        assert np.abs(found[:, track] - expected).max() < 1 / (MOST_POINTS - TOP_POINTS)
        largest = np.sort(np.abs(background[:, track]))[-TOP_POINTS // 2 :][:, None]
        top = signed_quantiles(np.repeat(largest, 2, axis=1), table)[:, track]
        assert top == pytest.approx([counted(x, background[:, track]) for x in largest[:, 0]], abs=1e-6)


def test_quantiles_rise_with_the_score():
    draw = np.random.default_rng(5)
    table = table_of(draw.normal(size=(30_000, 1)).astype(np.float32))
    asked = np.sort(draw.normal(size=(2_000, 1)), axis=0)
    assert (np.diff(signed_quantiles(asked, table)[:, 0]) >= 0).all()


@pytest.mark.parametrize("count", [1, 2, MOST_POINTS - 1, MOST_POINTS, MOST_POINTS + 1, 10**7])
def test_kept_ranks_are_distinct_and_reach_both_ends(count):
    ranks = kept_ranks(count)
    assert len(ranks) == min(count, MOST_POINTS)
    assert ranks[0] == 0 and ranks[-1] == count - 1
    assert (np.diff(ranks) > 0).all()
