"""Predictions of both alleles around a variant, beside predictions of the whole window."""

from __future__ import annotations

import numpy as np
import pytest
from toy_models import BaseCounts, variant

from gexpr.errors import ConfigError
from gexpr.genome.windows import WindowRule
from gexpr.scoring.definitions import parse_mask
from gexpr.scoring.engine import ALTERNATE, PROFILE_START, PROFILES, REFERENCE, FastaWindows, VariantScorer
from gexpr.scoring.predictor import Predictor

BIN = BaseCounts().bin_size


def counts(text: str) -> list[list[float]]:
    """What the toy predicts: bases of each kind in every bin."""
    bins = [text[at : at + BIN] for at in range(0, len(text), BIN)]
    return [[float(each.count(base)) for base in "ACGT"] for each in bins]


def score(genome, variants, **settings):
    rule = settings.pop("window_rule", None)
    predictor = Predictor(BaseCounts(), batch_size=3, **settings.pop("predictor", {}))
    more = {} if rule is None else {"window_rule": rule}
    return VariantScorer(predictor, FastaWindows(genome), **settings, **more).score(variants)


@pytest.mark.parametrize("bins", [1, 3, 4, 8])
@pytest.mark.parametrize("mask", ["all", "center:2"])
def test_profiles_of_substitutions_are_the_predictions_around_them(sequence, genome, bins, mask) -> None:
    at = 1000
    alt = "ACGT"[("ACGT".index(sequence[at]) + 1) % 4]
    refused = variant(900, "A", "C", 1)._replace(status="too_long")
    found = score(
        genome,
        [variant(at, sequence[at], alt), refused],
        profile=bins,
        mask=parse_mask(mask),
        max_allele_length=1,
    )
    start = int(found[PROFILE_START][0])
    # The variant is at index 32 of 64; the target begins at 16, so that it begins the fifth of eight bins.
    assert start == at - 32 + 16 + BIN * min(max(4 - bins // 2, 0), 8 - bins)
    before = sequence[start : start + BIN * bins]
    after = before[: at - start] + alt + before[at - start + 1 :]
    assert found[REFERENCE][0].tolist() == counts(before)
    assert found[ALTERNATE][0].tolist() == counts(after)
    assert found[PROFILE_START][1] == -1 and all(np.isnan(found[name][1]).all() for name in PROFILES[:2])


@pytest.mark.parametrize("average", ["predictions", "scores"])
def test_profiles_are_averages_over_strands_and_shifts(sequence, genome, average) -> None:
    at = 1000
    alleles = [variant(at, sequence[at], "ACGT"[("ACGT".index(sequence[at]) + 2) % 4])]
    shifts = (-1, 0, 2)
    found = score(genome, alleles, profile=4, average=average, predictor={"shifts": shifts})
    start = int(found[PROFILE_START][0])
    expected = [counts(sequence[start + shift :][: 4 * BIN]) for shift in shifts]
    assert found[REFERENCE][0] == pytest.approx(np.mean(expected, axis=0), abs=1e-6)


def test_an_insertion_is_shown_on_the_bins_of_the_reference(sequence, genome) -> None:
    at = 1000
    size = 2 * BIN
    found = score(genome, [variant(at, "", "A" * size)], profile=8)
    reference, alternate = found[REFERENCE][0], found[ALTERNATE][0]
    assert not np.isnan(reference).any()
    # Two bins were pushed out of the window: what would lie in the last two is not known.
    assert np.isnan(alternate[-2:]).all() and not np.isnan(alternate[:-2]).any()
    assert (alternate[:3] == reference[:3]).all()
    assert (alternate[4:-2] == reference[4:-2]).all()
    assert alternate[3, 0] > reference[3, 0]


def test_on_a_grid_the_profile_follows_the_variant_to_the_edge_of_the_target(sequence, genome) -> None:
    positions = range(1000, 1032)
    alleles = [
        variant(p, sequence[p], "ACGT"[("ACGT".index(sequence[p]) + 1) % 4], i)
        for i, p in enumerate(positions)
    ]
    found = score(genome, alleles, profile=5, window_rule=WindowRule(11))
    for row, position in enumerate(positions):
        start = int(found[PROFILE_START][row])
        assert start % BIN == found[PROFILE_START][0] % BIN
        assert found[REFERENCE][row].tolist() == counts(sequence[start : start + 5 * BIN])
        assert start <= position < start + 5 * BIN


@pytest.mark.parametrize("bins", [0, 9])
def test_a_profile_that_the_model_does_not_predict_is_refused(genome, bins) -> None:
    with pytest.raises(ConfigError, match="from 1 to 8 bins"):
        score(genome, [], profile=bins)
