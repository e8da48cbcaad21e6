"""Losses against numbers worked out by hand or by another way."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from gexpr.errors import ConfigError
from gexpr.results import Track
from gexpr.training.config import LossConfig, PairConfig, TermConfig
from gexpr.training.losses import (
    Objective,
    contrast,
    log_mse,
    log_poisson,
    mse,
    multinomial,
    poisson,
    poisson_multinomial,
    wide_sums,
)
from gexpr.training.metrics import StreamingPearson


def bins(values: list[float]) -> torch.Tensor:
    """(1, bins, 1) in float64."""
    return torch.tensor(values, dtype=torch.float64).reshape(1, -1, 1)


ALL = torch.ones(1, 4, dtype=torch.bool)
THREE = torch.tensor([[True, True, True, False]])


def test_poisson_by_hand():
    p, y = bins([1.0, 2.0, 4.0, 9.0]), bins([0.0, 2.0, 1.0, 100.0])
    by_hand = (1.0 + (2.0 - 2.0 * math.log(2.0)) + (4.0 - math.log(4.0))) / 3
    assert poisson(p, y, THREE, epsilon=0.0).item() == pytest.approx(by_hand, abs=1e-12)


def test_poisson_is_the_negative_log_likelihood_up_to_a_constant():
    generator = np.random.default_rng(0)
    p, y = generator.gamma(2.0, 2.0, 50), generator.poisson(3.0, 50)
    q = generator.gamma(2.0, 2.0, 50)
    valid = torch.ones(1, 50, dtype=torch.bool)
    ours = [poisson(bins(v), bins(y), valid, 0.0).item() for v in (p, q)]
    theirs = [-stats.poisson.logpmf(y, v).mean() for v in (p, q)]
    assert ours[0] - ours[1] == pytest.approx(theirs[0] - theirs[1], abs=1e-10)


def test_poisson_multinomial_by_hand():
    p, y = bins([1.0, 2.0, 5.0, 9.0]), bins([3.0, 0.0, 1.0, 100.0])
    multinomial = -(3 * math.log(1 / 8) + 1 * math.log(5 / 8))
    total = 8.0 - 4.0 * math.log(8.0)
    loss = poisson_multinomial(p, y, THREE, total_weight=0.5, epsilon=1e-12).item()
    assert loss == pytest.approx((multinomial + 0.5 * total) / 3, abs=1e-9)


def test_poisson_multinomial_is_poisson_when_totals_weigh_one():
    # A Poisson of every bin factorizes into a Poisson of the total and a multinomial of the shares.
    generator = np.random.default_rng(1)
    p, q = (bins(generator.gamma(2.0, 2.0, 30)) for _ in range(2))
    y = bins(generator.poisson(3.0, 30))
    valid = torch.ones(1, 30, dtype=torch.bool)
    factored = [poisson_multinomial(v, y, valid, 1.0, 1e-12).item() for v in (p, q)]
    plain = [poisson(v, y, valid, 0.0).item() for v in (p, q)]
    assert factored[0] - factored[1] == pytest.approx(plain[0] - plain[1], abs=1e-8)


def test_log_mse_by_hand_and_in_wide_bins():
    p, y = bins([0.0, 1.0, 3.0, 9.0]), bins([1.0, 1.0, 0.0, 50.0])
    by_hand = (math.log(2) ** 2 + 0 + math.log(4) ** 2) / 3
    assert log_mse(p, y, THREE).item() == pytest.approx(by_hand, abs=1e-12)
    # Windows of two bins, a new one at every bin: sums 1, 4, 3 against 2, 1, 0.
    wide = (math.log(2 / 3) ** 2 + math.log(5 / 2) ** 2 + math.log(4) ** 2) / 3
    assert log_mse(p, y, THREE, width=2).item() == pytest.approx(wide, abs=1e-12)


def test_wide_sums_overlap_by_half_and_skip_invalid_bins():
    values = bins([1, 2, 3, 4, 5, 6, 7, 8])
    valid = torch.ones(1, 8, dtype=torch.bool)
    assert wide_sums(values, valid, 4).flatten().tolist() == pytest.approx([10, 18, 26])
    valid[0, 2] = False
    assert wide_sums(values, valid, 4).flatten().tolist() == pytest.approx([7, 15, 26])
    assert wide_sums(values, valid, 100).flatten().tolist() == pytest.approx([33])


def two_tracks(first: list[float], second: list[float]) -> torch.Tensor:
    return torch.tensor([first, second], dtype=torch.float64).T.unsqueeze(0)


def test_contrast_squared_by_hand():
    # Windows of two bins, one a bin. Track 1 over track 0.
    p = two_tracks([1, 1, 0, 5], [3, 1, 2, 5])
    y = two_tracks([2, 0, 0, 7], [4, 2, 0, 7])
    c, n0 = 0.5, 10.0
    sums = [((2, 4), (2, 6)), ((1, 3), (0, 2)), ((0, 2), (0, 0))]  # invalid last bin counts nothing
    error = weight = 0.0
    for (p_a, p_b), (a, b) in sums:
        w = (a + b) / (a + b + n0)
        error += w * (math.log2((p_b + c) / (p_a + c)) - math.log2((b + c) / (a + c))) ** 2
        weight += w
    loss = contrast(p, y, THREE, [([1], [0])], 2, "squared", c, n0)
    assert loss.item() == pytest.approx(error / weight, abs=1e-12)


def test_contrast_binomial_by_hand():
    p = two_tracks([1, 1, 0, 5], [3, 1, 2, 5])
    y = two_tracks([2, 0, 0, 7], [4, 2, 0, 7])
    c, n0 = 0.5, 10.0
    error = weight = 0.0
    for (p_a, p_b), (a, b) in [((2, 4), (2, 6)), ((1, 3), (0, 2))]:
        q, w = (p_b + c) / (p_a + p_b + 2 * c), (a + b) / (a + b + n0)
        error += w * -(b * math.log(q) + a * math.log(1 - q)) / (a + b)
        weight += w
    loss = contrast(p, y, THREE, [([1], [0])], 2, "binomial", c, n0)
    assert loss.item() == pytest.approx(error / weight, abs=1e-12)


def test_contrast_sums_the_tracks_of_a_group_and_is_zero_when_right():
    generator = torch.Generator().manual_seed(0)
    y = torch.rand(2, 8, 4, generator=generator, dtype=torch.float64) * 20
    valid = torch.ones(2, 8, dtype=torch.bool)
    pairs = [([0, 1], [2, 3])]
    assert contrast(y, y, valid, pairs, 4).item() == pytest.approx(0, abs=1e-15)
    # Swapping the tracks of one group leaves every sum as it is.
    assert contrast(y[..., [1, 0, 2, 3]], y, valid, pairs, 4).item() == pytest.approx(0, abs=1e-15)
    assert contrast(y[..., [2, 3, 0, 1]], y, valid, pairs, 4).item() > 0.01


def test_log_poisson_is_equation_1_of_the_log_rate_whether_given_rates_or_logs():
    f, y = bins([-1.0, 0.5, 2.0, 9.0]), bins([0.0, 2.0, 7.0, 100.0])
    by_hand = -(0 - math.exp(-1)) - (2 * 0.5 - math.exp(0.5)) - (7 * 2 - math.exp(2))
    assert log_poisson(f.exp(), y, THREE).item() == pytest.approx(by_hand / 3, abs=1e-12)
    assert log_poisson(f, y, THREE, log_input=True).item() == pytest.approx(by_hand / 3, abs=1e-12)
    assert log_poisson(f.exp(), y, THREE).item() == pytest.approx(poisson(f.exp(), y, THREE, 0.0).item())


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("log_input", [False, True])
def test_log_poisson_is_that_of_torch(full, log_input):
    generator = np.random.default_rng(2)
    p = bins(generator.gamma(2.0, 2.0, 40))
    y = bins([0.0, 0.5, 1.0, 1.5, *generator.poisson(3.0, 36)])
    valid = torch.ones(1, 40, dtype=torch.bool)
    theirs = torch.nn.functional.poisson_nll_loss(p, y, log_input=log_input, full=full, eps=0.0)
    assert log_poisson(p, y, valid, log_input, full).item() == pytest.approx(theirs.item(), abs=1e-12)


def test_the_full_log_poisson_is_the_likelihood_of_large_counts():
    y = np.array([40, 75, 120, 300])
    loss = log_poisson(bins(y + 3.0), bins(y), ALL, full=True).item()
    assert loss == pytest.approx(-stats.poisson.logpmf(y, y + 3.0).mean(), abs=2e-3)


def test_mse_by_hand_with_targets_below_zero():
    p, y = bins([1.0, -2.0, 0.5, 9.0]), bins([-1.0, -2.5, 0.0, 100.0])
    assert mse(p, y, THREE).item() == pytest.approx((4 + 0.25 + 0.25) / 3, abs=1e-12)


def test_multinomial_is_the_log_likelihood_of_the_shares_alone():
    p, y = bins([1.0, 2.0, 5.0, 9.0]), bins([3.0, 0.0, 1.0, 100.0])
    loss = multinomial(p, y, THREE, epsilon=1e-12).item()
    coefficient = math.lgamma(5) - math.lgamma(4)
    likelihood = stats.multinomial.logpmf([3, 0, 1], 4, [1 / 8, 2 / 8, 5 / 8])
    assert loss == pytest.approx((coefficient - likelihood) / 3, abs=1e-9)
    assert multinomial(7 * p, y, THREE, epsilon=1e-12).item() == pytest.approx(loss, abs=1e-9)


@pytest.mark.parametrize(
    "function", [poisson, log_poisson, multinomial, poisson_multinomial], ids=lambda f: f.__name__
)
@pytest.mark.parametrize("level", [0.0, 1e-38])
def test_rates_that_vanish_give_finite_losses_and_gradients(function, level):
    # As a softplus gives them far below zero, in float32.
    p = torch.full((1, 4, 2), level, requires_grad=True)
    y = torch.tensor([0.0, 1.0, 50.0, 1e4]).reshape(1, 4, 1).expand(1, 4, 2)
    loss = function(p, y, ALL)
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(p.grad).all()
    assert (p.grad[0, 3] < 0).all()


FUNCTIONS = (poisson, log_poisson, multinomial, poisson_multinomial, mse, log_mse)


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda each: each.__name__)
def test_invalid_bins_have_no_gradient_and_none_valid_gives_zero(function):
    p = bins([1.0, 2.0, 3.0, 4.0]).requires_grad_()
    function(p, bins([2.0, 1.0, 5.0, 9.0]), THREE).backward()
    assert p.grad is not None
    assert p.grad[0, 3, 0] == 0 and (p.grad[0, :3, 0] != 0).all()
    assert function(p, bins([2.0, 1.0, 5.0, 9.0]), ~ALL).item() == 0


def test_gradients_are_those_of_finite_differences():
    generator = torch.Generator().manual_seed(4)
    y = torch.poisson(torch.full((2, 8, 2), 4.0, dtype=torch.float64), generator=generator)
    valid = torch.rand(2, 8, generator=generator) > 0.2
    p = (torch.rand(2, 8, 2, generator=generator, dtype=torch.float64) * 5 + 0.5).requires_grad_()
    for function in (
        lambda v: poisson(v, y, valid),
        lambda v: log_poisson(v, y, valid),
        lambda v: log_poisson(v, y, valid, True, True),
        lambda v: multinomial(v, y, valid),
        lambda v: mse(v, -y, valid),
        lambda v: poisson_multinomial(v, y, valid),
        lambda v: log_mse(v, y, valid, 4),
        lambda v: contrast(v, y, valid, [([1], [0])], 4, "squared"),
        lambda v: contrast(v, y, valid, [([1], [0])], 4, "binomial"),
    ):
        assert torch.autograd.gradcheck(function, (p,))


def test_objective_adds_weighted_terms_and_names_them():
    tracks = [Track(0, "a", "a"), Track(1, "b", "b")]
    config = LossConfig(
        name="poisson",
        terms=(
            TermConfig("log_mse", weight=0.5, width=2),
            TermConfig("log_mse", weight=0.25),
            TermConfig("contrast", weight=2.0, width=4, pairs=(PairConfig(("b",), ("a",)),)),
        ),
    )
    p, y = two_tracks([1, 2, 3, 4], [5, 1, 2, 2]), two_tracks([0, 1, 4, 4], [1, 1, 1, 1])
    total, parts = Objective(config, tracks, 4)(p, y, ALL)
    assert list(parts) == ["poisson", "log_mse", "log_mse_2", "contrast"]
    assert parts["contrast"].item() == pytest.approx(contrast(p, y, ALL, [([1], [0])], 4).item())
    expected = parts["poisson"] + 0.5 * parts["log_mse"] + 0.25 * parts["log_mse_2"] + 2 * parts["contrast"]
    assert total.item() == pytest.approx(expected.item())
    bad = LossConfig(terms=(TermConfig("contrast", pairs=(PairConfig(("c",), ("a",)),)),))
    with pytest.raises(ConfigError, match="no track 'c'; it has: a, b"):
        Objective(bad, tracks, 4)
    with pytest.raises(ConfigError, match="width 8"):
        Objective(LossConfig(terms=(TermConfig("log_mse", width=8),)), tracks, 4)


def test_objective_hands_settings_to_each_loss():
    p, y = two_tracks([1, 2, 3, 4], [5, 1, 2, 2]), two_tracks([0, 1, 4, 4], [1, 3, 1, 1])
    config = LossConfig(
        name="log_poisson",
        full=True,
        terms=(
            TermConfig("log_poisson", log_input=True),
            TermConfig("multinomial"),
            TermConfig("mse"),
            TermConfig("poisson_multinomial", total_weight=0.7),
        ),
    )
    _, parts = Objective(config, [Track(0, "a", "a"), Track(1, "b", "b")], 4)(p, y, ALL)
    assert {name: value.item() for name, value in parts.items()} == {
        "log_poisson": log_poisson(p, y, ALL, full=True).item(),
        "log_poisson_2": log_poisson(p, y, ALL, log_input=True).item(),
        "multinomial": multinomial(p, y, ALL).item(),
        "mse": mse(p, y, ALL).item(),
        "poisson_multinomial": poisson_multinomial(p, y, ALL, 0.7).item(),
    }


def test_which_losses_are_for_rates_alone():
    def of(name: str, *terms: TermConfig, **settings: bool) -> str | None:
        return Objective(LossConfig(name, terms=terms, **settings), [Track(0, "a", "a")], 4).rates_only

    assert of("mse") is None and of("log_poisson", TermConfig("mse"), log_input=True) is None
    assert not Objective(LossConfig("log_poisson"), [], 4).of_logarithms
    assert of("poisson") == "poisson" and of("log_poisson") == "log_poisson"
    assert of("mse", TermConfig("mse"), TermConfig("log_mse")) == "log_mse"


def test_negative_targets_are_for_mse_alone():
    tracks = [Track(0, "a", "a"), Track(1, "b", "b")]
    y = two_tracks([1, 2, 3, -4], [5, 1, 2, 2]).numpy()
    Objective(LossConfig(name="mse"), tracks, 4).check_targets(y, ALL.numpy(), "here")
    terms = (TermConfig("log_mse"),)
    for config, name in ((LossConfig(), "poisson"), (LossConfig(name="mse", terms=terms), "log_mse")):
        objective = Objective(config, tracks, 4)
        objective.check_targets(y, THREE.numpy(), "here")
        with pytest.raises(ConfigError, match=f"here: track 'a' has the target -4, but the loss {name} is"):
            objective.check_targets(y, ALL.numpy(), "here")


def test_streaming_pearson_equals_that_of_the_whole():
    generator = np.random.default_rng(5)
    x = generator.normal(1000.0, 1.0, (200, 3))
    y = x * [1, -1, 0] + generator.normal(0, 1, (200, 3))
    weight = generator.random((200, 3))
    plain, weighted = StreamingPearson(3), StreamingPearson(3)
    for rows in (slice(0, 1), slice(1, 120), slice(120, 200)):
        plain.update(x[rows], y[rows])
        weighted.update(x[rows], y[rows], weight[rows])
    for i in range(3):
        assert plain.result()[i] == pytest.approx(np.corrcoef(x[:, i], y[:, i])[0, 1], abs=1e-9)
        covariance = np.cov(x[:, i], y[:, i], aweights=weight[:, i])
        expected = covariance[0, 1] / math.sqrt(covariance[0, 0] * covariance[1, 1])
        assert weighted.result()[i] == pytest.approx(expected, abs=1e-9)
    flat = StreamingPearson(1)
    flat.update(np.full((5, 1), 0.1), np.arange(5.0).reshape(-1, 1))
    assert np.isnan(flat.result()[0]) and np.isnan(StreamingPearson(1).result()[0])
