"""Statistics whose values are worked out on paper."""

from __future__ import annotations

import math

import pytest
import torch

from gexpr.errors import ConfigError
from gexpr.results import Track
from gexpr.scoring import statistics
from gexpr.scoring.definitions import (
    STATISTICS,
    canonical_statistic,
    parse_mask,
    parse_shifts,
    parse_statistics,
)

# One variant, three bins, two tracks.
REFERENCE = torch.tensor([[[1.0, 0.0], [3.0, 2.0], [0.0, 5.0]]])
ALTERNATE = torch.tensor([[[3.0, 0.0], [3.0, 1.0], [1.0, 5.0]]])

ON_PAPER = {
    "logFC": (math.log2(8 / 5), math.log2(7 / 8)),
    "SAD": (3.0, -1.0),
    "logSAD": (2 + 2 + 1 - (1 + 2 + 0), 1 - math.log2(3)),
    "sqrtSAD": (math.sqrt(3) + 1 - 1, 1 - math.sqrt(2)),
    "SAX": (2.0, -1.0),
    "D1": (3.0, 1.0),
    "D2": (math.sqrt(5), 1.0),
    "logD2": (math.sqrt(2), math.log2(3) - 1),
    "ACTIVE_SUM": (7.0, 7.0),
}


def entropy(*shares: float) -> float:
    return -sum(p * math.log2(p) for p in shares if p)


@pytest.mark.parametrize("name", ON_PAPER)
def test_values_on_paper(name: str) -> None:
    scores = statistics.compute(name, REFERENCE, ALTERNATE)
    assert scores.shape == (1, 2) and scores.dtype == torch.float32
    assert scores[0].tolist() == pytest.approx(ON_PAPER[name], rel=1e-6)


def test_every_statistic_is_tested() -> None:
    assert set(STATISTICS) == {*ON_PAPER, "JS"}


def test_jensen_shannon_is_the_true_divergence_in_bits() -> None:
    p, q = (1 / 4, 3 / 4, 0.0), (3 / 7, 3 / 7, 1 / 7)
    middle = [(a + b) / 2 for a, b in zip(p, q, strict=True)]
    expected = entropy(*middle) - (entropy(*p) + entropy(*q)) / 2
    scores = statistics.compute("JS", REFERENCE, ALTERNATE)
    assert scores[0, 0].item() == pytest.approx(expected, abs=1e-4)  # the pseudocount of 1e-6
    disjoint = statistics.compute("JS", torch.tensor([[[1.0], [0.0]]]), torch.tensor([[[0.0], [1.0]]]))
    assert disjoint.item() == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("name", STATISTICS)
def test_a_null_variant_scores_exactly_zero(name: str) -> None:
    values = torch.rand(3, 50, 4, generator=torch.Generator().manual_seed(0)) * 100
    scores = statistics.compute(name, values, values.clone())
    if name == "ACTIVE_SUM":
        assert torch.allclose(scores, values.sum(1), rtol=1e-6)
    else:
        assert torch.equal(scores, torch.zeros(3, 4))


@pytest.mark.parametrize("name", ["logFC", "SAD", "logSAD", "sqrtSAD", "SAX"])
def test_swapping_the_alleles_negates_exactly(name: str) -> None:
    generator = torch.Generator().manual_seed(1)
    a, b = torch.rand(2, 5, 50, 4, generator=generator).unbind(0)
    assert torch.equal(statistics.compute(name, a, b), -statistics.compute(name, b, a))


@pytest.mark.parametrize("name", ["D1", "D2", "logD2", "JS", "ACTIVE_SUM"])
def test_distances_are_symmetric(name: str) -> None:
    a, b = torch.rand(2, 5, 50, 4, generator=torch.Generator().manual_seed(2)).unbind(0)
    assert torch.allclose(statistics.compute(name, a, b), statistics.compute(name, b, a), rtol=1e-6)


@pytest.mark.parametrize("name", STATISTICS)
def test_bins_outside_the_mask_do_not_matter(name: str) -> None:
    generator = torch.Generator().manual_seed(3)
    a, b = torch.rand(2, 2, 10, 3, generator=generator).unbind(0)
    mask = torch.zeros(2, 10, dtype=torch.bool)
    mask[0, 2:5] = mask[1, 6:9] = True
    kept = torch.stack(
        [
            statistics.compute(name, a[:1, 2:5], b[:1, 2:5])[0],
            statistics.compute(name, a[1:, 6:9], b[1:, 6:9])[0],
        ]
    )
    spoilt = [torch.where(mask[..., None], values, torch.nan) for values in (a, b)]
    assert torch.allclose(statistics.compute(name, *spoilt, mask), kept, rtol=1e-6)


def test_pseudocount() -> None:
    scores = statistics.compute("logFC", REFERENCE, ALTERNATE, pseudocount=0.5)
    assert scores[0, 0].item() == pytest.approx(math.log2(7.5 / 4.5))


def test_sums_keep_small_differences_of_large_totals() -> None:
    reference = torch.full((1, 1000, 1), 1e6)
    alternate = reference.clone()
    alternate[0, 500, 0] += 1
    assert statistics.compute("SAD", reference, alternate).item() == 1.0
    assert statistics.compute("logFC", reference, alternate).item() == pytest.approx(
        1e-9 / math.log(2), rel=1e-5
    )


def test_log_tracks_take_the_mean_difference_in_log2_units() -> None:
    tracks = [Track(0, "a", "a", transform="log2"), Track(1, "b", "b", transform="ln")]
    scores = statistics.compute("logFC", REFERENCE, ALTERNATE, tracks=tracks)
    assert scores[0].tolist() == pytest.approx([1.0, -1 / 3 * math.log2(math.e)])


@pytest.mark.parametrize(
    ("given", "canonical"),
    [("logfc", "logFC"), ("LOGSED", "logFC"), ("Sum", "SAD"), ("diff_sum_log2", "logSAD"), ("l2_diff", "D2")],
)
def test_names_in_any_case_and_of_peers(given: str, canonical: str) -> None:
    assert canonical_statistic(given) == canonical


def test_an_unknown_name_is_told_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"'logfold'.*did you mean.*SAX"):
        canonical_statistic("logfold")
    with pytest.raises(ConfigError, match="twice"):
        parse_statistics("SAD,sum")
    with pytest.raises(ConfigError, match="no statistic"):
        parse_statistics(" , ")


def test_shifts_and_masks() -> None:
    assert parse_shifts("1,-1, 0") == (-1, 0, 1)
    for bad in ("", "1,1", "0.5", "1,,2", "x"):
        with pytest.raises(ConfigError):
            parse_shifts(bad)
    assert parse_mask("ALL").distance is None
    assert str(parse_mask("center:250")) == "center:250"
    for bad in ("center", "center:-1", "center:1.5", "gene"):
        with pytest.raises(ConfigError, match="mask"):
            parse_mask(bad)
