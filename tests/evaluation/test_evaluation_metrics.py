"""Correlation and R² against hand-computed and scipy's values, however the data is cut into blocks."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats

from gexpr.evaluation.metrics import Moments, pearson, pool, r_squared, ranks, spearman


def test_by_hand() -> None:
    # Means 2 and 3; centered products 2+0+1=3 over sqrt(2 * 14).
    assert pearson([1, 2, 3], [1, 2, 6]) == pytest.approx(5 / math.sqrt(2 * 14))
    # Residuals 0, 0, 9; total variation of the measured 2.
    assert r_squared([1, 2, 3], [1, 2, 6]) == pytest.approx(1 - 9 / 2)
    assert r_squared([1, 2, 3], [2, 2, 2]) == 0.0
    assert pearson([1, 2, 3], [6, 4, 2]) == pytest.approx(-1.0)


def test_against_scipy() -> None:
    generator = np.random.default_rng(0)
    x = generator.gamma(0.5, 10, 500)
    y = x + generator.normal(0, 5, 500)
    assert pearson(x, y) == pytest.approx(scipy.stats.pearsonr(x, y).statistic, abs=1e-14)


def test_ranks_and_spearman_against_scipy() -> None:
    generator = np.random.default_rng(3)
    # Few values, so that many are equal.
    x = generator.integers(0, 20, 300).astype(float)
    y = x + generator.normal(0, 8, 300)
    np.testing.assert_array_equal(ranks(x), scipy.stats.rankdata(x))
    assert spearman(x, y) == pytest.approx(scipy.stats.spearmanr(x, y).statistic, abs=1e-14)
    assert math.isnan(spearman(np.ones(5), np.arange(5)))


@pytest.mark.parametrize("cuts", [[], [1], [0, 0, 250], [100, 101, 400], list(range(1, 500))])
def test_blocks_give_the_values_of_the_whole(cuts: list[int]) -> None:
    generator = np.random.default_rng(1)
    x = generator.normal(0, [1, 1e-3, 50], (500, 3)) + np.array([0, 1000, -3])
    y = 0.5 * x + generator.normal(0, [1, 1e-3, 50], (500, 3))
    moments = Moments(3)
    for piece_x, piece_y in zip(np.split(x, cuts), np.split(y, cuts), strict=True):
        moments.update(piece_x, piece_y)
    assert moments.n == 500
    expected = [scipy.stats.pearsonr(x[:, i], y[:, i]).statistic for i in range(3)]
    np.testing.assert_allclose(moments.pearson(), expected, atol=1e-9)
    residual, total = np.square(x - y).sum(axis=0), np.square(x - x.mean(axis=0)).sum(axis=0)
    np.testing.assert_allclose(moments.r_squared(), 1 - residual / total, rtol=1e-9)


def test_many_columns_do_not_mix() -> None:
    generator = np.random.default_rng(2)
    x = generator.gamma(1, 3, (90, 150)).astype(np.float32)
    y = (x + generator.normal(0, 2, x.shape)).astype(np.float32)
    moments = Moments(150)
    for rows in (slice(0, 40), slice(40, 90)):
        moments.update(x[rows], y[rows])
    for i in (0, 63, 64, 128, 149):
        assert moments.pearson()[i] == pytest.approx(pearson(x[:, i], y[:, i]), abs=1e-12)
        assert moments.r_squared()[i] == pytest.approx(r_squared(x[:, i], y[:, i]), abs=1e-12)


def test_undefined_is_nan() -> None:
    assert math.isnan(pearson([1, 2, 3], [0.1, 0.1, 0.1]))
    assert math.isnan(r_squared([0.1, 0.1, 0.1], [1, 2, 3]))
    assert math.isnan(pearson([1], [2]))
    assert math.isnan(pearson([], []))
    # Fractions that are not exact in binary must not look like variation.
    constant = Moments(1)
    for _ in range(10):
        constant.update(np.full((7, 1), 0.1), np.arange(7.0)[:, None])
    assert math.isnan(constant.pearson()[0])


def test_different_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="shapes differ"):
        Moments(1).update(np.zeros((2, 1)), np.zeros((3, 1)))


def test_pool_sums_whole_groups() -> None:
    values = np.array([[1, 10], [2, 20], [3, 30], [4, 40], [5, 50], [6, 60], [7, 70]], dtype=np.float32)
    valid = np.array([True, True, True, False, True, True, True])
    pooled = pool(values, valid, 2)
    np.testing.assert_array_equal(pooled.values, [[3, 30], [7, 70], [11, 110]])
    np.testing.assert_array_equal(pooled.valid, [True, False, True])
