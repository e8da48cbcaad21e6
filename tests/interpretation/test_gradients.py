"""Attributions of models whose gradients are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from toy_models import BaseCounts, Unpaired, tiny_model

from gexpr.errors import ConfigError, GexprError
from gexpr.genome.codes import Codes, one_hot
from gexpr.interpretation.gradients import Attributor, baselines
from gexpr.results import Track
from gexpr.scoring.definitions import Mask
from gexpr.scoring.predictor import Predictor

WEIGHTS = torch.from_numpy(np.random.default_rng(8).normal(size=(64, 4)).astype(np.float32))


class Quadratic(BaseCounts):
    """Track 0 is (w . x)^2 in the first bin, with weights for every base and letter; the others are 0."""

    def forward(self, x: torch.Tensor, head: str | None = None) -> torch.Tensor:
        result = x.new_zeros((len(x), self.target_length, 4))
        result[:, 0, 0] = (x * WEIGHTS.to(x)).sum((1, 2)).square()
        return result


def codes(length: int = 64, seed: int = 3) -> Codes:
    return np.random.default_rng(seed).integers(0, 4, length).astype(np.uint8)


def attributor(model: BaseCounts, target: str = "sum", **settings: object) -> Attributor:
    predictor = Predictor(model, reverse_complement=False, batch_size=3)
    return Attributor(predictor, target=target, each_track=True, **settings)  # type: ignore[arg-type]


def test_gradients_of_a_quadratic_are_exact() -> None:
    window = codes()
    x = torch.from_numpy(one_hot(window))
    projection = float((x * WEIGHTS).sum())
    found = attributor(Quadratic()).gradient(window, 20, 30, correct=False)
    assert np.allclose(found.values[..., 0], 2 * projection * WEIGHTS[20:30].numpy(), rtol=1e-5)
    assert not found.values[..., 1:].any()
    own = WEIGHTS.numpy()[np.arange(20, 30), window[20:30]]
    assert np.allclose(found.contributions[:, 0], 2 * projection * own, rtol=1e-5)
    assert np.allclose(found.target, [projection**2, 0, 0, 0], rtol=1e-5)
    assert np.isnan(found.baseline).all()


def test_correction_subtracts_the_mean_over_letters() -> None:
    plain = attributor(Quadratic()).gradient(codes(), 20, 30, correct=False).values
    corrected = attributor(Quadratic()).gradient(codes(), 20, 30).values
    assert np.allclose(corrected, plain - plain.mean(axis=1, keepdims=True), atol=1e-5)
    assert np.abs(corrected.sum(axis=1)).max() < 1e-4


def test_log2sum_is_the_chain_rule() -> None:
    plain = attributor(Quadratic()).gradient(codes(), 20, 30)
    logarithm = attributor(Quadratic(), "log2sum").gradient(codes(), 20, 30)
    assert np.allclose(logarithm.target, np.log2(plain.target + 1), rtol=1e-6)
    scale = (plain.target[0] + 1) * np.log(2)
    assert np.allclose(logarithm.values[..., 0], plain.values[..., 0] / scale, rtol=1e-5)


@pytest.mark.parametrize("baseline", ["zeros", "mean", "shuffled"])
@pytest.mark.parametrize("target", ["sum", "log2sum"])
def test_integrated_gradients_are_complete(baseline: str, target: str) -> None:
    found = attributor(Quadratic(), target).integrated(
        codes(), 20, 30, steps=64, baseline=baseline, shuffles=3
    )
    difference = found.target - found.baseline
    assert abs(difference[0]) > 1e-3
    # The midpoints are exact for a quadratic, and nearly so for its logarithm.
    assert np.allclose(found.contributions.sum(axis=0), difference, rtol=2e-3, atol=1e-4)


def test_integrated_gradients_from_zero_are_exact_for_a_quadratic() -> None:
    """With p of the region and q of the rest, (p + q)^2 - q^2 is divided in proportion to each weight."""
    window = codes()
    parts = (one_hot(window) * WEIGHTS.numpy()).sum(axis=1).astype(np.float64)
    q, p = parts.sum() - parts[20:30].sum(), parts[20:30].sum()
    found = attributor(Quadratic()).integrated(window, 20, 30, steps=4)
    assert np.allclose(found.contributions[:, 0], parts[20:30] * (p + 2 * q), rtol=1e-4)
    assert np.allclose(found.baseline[0], q**2, rtol=1e-5)


@pytest.mark.parametrize("reverse", [False, True])
def test_strands_and_shifts_are_averaged_in_place(reverse: bool) -> None:
    """Counts: a base adds 1 to its letter's track, and on the reverse complement to its complement's."""
    predictor = Predictor(Unpaired(), reverse_complement=reverse, shifts=(-2, 0), batch_size=2)
    found = Attributor(predictor, target="sum", each_track=True).gradient(
        codes(predictor.window_length), 30, 34, correct=False
    )
    expected = (np.eye(4) + np.eye(4)[::-1]) / 2 if reverse else np.eye(4)
    assert np.allclose(found.values, np.broadcast_to(expected, (4, 4, 4)))


def test_strand_pairs_are_equivariant() -> None:
    predictor = Predictor(BaseCounts(), batch_size=2)
    found = Attributor(predictor, target="sum", each_track=True).gradient(codes(), 30, 34, correct=False)
    assert np.allclose(found.values, np.broadcast_to(np.eye(4), (4, 4, 4)))


def test_the_sum_of_tracks_is_one_column_and_a_mask_leaves_bins_out() -> None:
    predictor = Predictor(BaseCounts(), reverse_complement=False, batch_size=2)
    whole = Attributor(predictor, target="sum").gradient(codes(), 16, 48, correct=False)
    assert whole.values.shape == (32, 4, 1)
    assert whole.target.tolist() == [32.0]
    # 4 bp to each side of bases 30 to 34: the bins from 24 to 40.
    masked = Attributor(predictor, target="sum", mask=Mask(4)).targets(
        torch.from_numpy(one_hot(codes()))[None], 30, 34
    )
    assert masked[0].tolist() == [[16.0]]
    assert Attributor(predictor, target="sum").tracks[0].id == "sum"


def test_gradients_agree_with_finite_differences_of_predictions() -> None:
    """Of a real architecture, on both strands, against the predictions themselves."""
    model = tiny_model().double()
    predictor = Predictor(model, tracks=[0, 3], batch_size=2)
    window = codes(512)
    attributed = Attributor(predictor)
    x = torch.from_numpy(one_hot(window)).double()[None]
    step = torch.zeros_like(x)
    step[0, 250, 2] = 1e-4
    _, gradient = attributed.targets(x, 250, 251)
    high, low = (attributed.targets(x + sign * step, 250, 251)[0] for sign in (1, -1))
    assert np.allclose(gradient[0, 0, 2], (high - low)[0] / 2e-4, rtol=1e-3, atol=1e-9)
    summed = predictor.predict(window[None]).double().sum().item()
    assert np.isclose(attributed.targets(x, 250, 251)[0][0, 0], np.log2(summed + 1), rtol=1e-6)
    assert all(each.requires_grad for each in model.parameters())


def test_baselines() -> None:
    region = one_hot(codes(12))
    assert not baselines(region, "zeros", 1, [0]).any()
    assert np.allclose(baselines(region, "mean", 1, [0]), region.mean(axis=0))
    shuffled = baselines(region, "shuffled", 4, [0, 5])
    assert shuffled.shape == (4, 12, 4)
    assert np.array_equal(shuffled, baselines(region, "shuffled", 4, [0, 5]))
    assert not np.array_equal(shuffled, baselines(region, "shuffled", 4, [1, 5]))
    assert np.array_equal(shuffled.sum(axis=1), np.broadcast_to(region.sum(axis=0), (4, 4)))


def test_a_negative_sum_has_no_logarithm() -> None:
    class Negative(Quadratic):
        def forward(self, x: torch.Tensor, head: str | None = None) -> torch.Tensor:
            return -super().forward(x)

    assert attributor(Negative()).gradient(codes(), 20, 30).target[0] < -1
    with pytest.raises(GexprError, match=r"sum to -.* ask for --target sum"):
        attributor(Negative(), "log2sum").gradient(codes(), 20, 30)


def test_what_is_refused() -> None:
    predictor = Predictor(BaseCounts())
    with pytest.raises(ConfigError, match="target must be one of log2sum, sum, not 'mean'"):
        Attributor(predictor, target="mean")
    with pytest.raises(ConfigError, match="baseline must be one of"):
        attributor(Quadratic()).integrated(codes(), 20, 30, baseline="ones")
    with pytest.raises(ConfigError, match="1 step or more, not 0"):
        attributor(Quadratic()).integrated(codes(), 20, 30, steps=0)
    model = BaseCounts()
    model.tracks = [Track(i, f"t{i}", f"t{i}", strand_pair=i, transform="linear") for i in range(4)]
    with pytest.raises(ConfigError, match="log2sum is not defined for track 't0'"):
        Attributor(Predictor(model))
