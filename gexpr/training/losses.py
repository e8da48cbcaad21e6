"""Losses: pure functions of predictions, targets and a mask of valid bins.

Shapes: predictions and targets (B, bins, tracks), non-negative except in :func:`mse` (and predictions that
are logarithms); ``valid`` (B, bins), bool. Invalid bins never count. All return a scalar.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gexpr.errors import ConfigError
from gexpr.results import Track
from gexpr.training.config import LossConfig, TermConfig

EPSILON = 1e-6
TINY = 1e-20
"""Added to a rate before its logarithm: nothing to float32 rates above 1e-12, but no infinity at 0."""


def poisson(predictions: Tensor, targets: Tensor, valid: Tensor, epsilon: float = EPSILON) -> Tensor:
    """Mean over valid bins and tracks of ``p - y log(p + epsilon)``.

    The Poisson negative log likelihood without the term log(y!), which does not depend on p.
    """
    return _mean(predictions - targets * torch.log(predictions + epsilon), valid)


def _mean(loss: Tensor, valid: Tensor) -> Tensor:
    """Mean of (B, bins, tracks) over valid bins and tracks; 0 without a valid bin."""
    mask = valid.unsqueeze(-1).to(loss.dtype)
    return (loss * mask).sum() / (mask.sum() * loss.shape[-1]).clamp_min(1.0)


def log_poisson(
    predictions: Tensor,
    targets: Tensor,
    valid: Tensor,
    log_input: bool = False,
    full: bool = False,
) -> Tensor:
    """Mean over valid bins and tracks of ``e^f - y f``, with f the logarithm of the rate.

    Equation 1 of the attention models on Basenji's trunk, there as a sum. Models here predict the rate
    p = e^f, whatever link they end with; in terms of it the loss is ``p - y log p``, :func:`poisson`
    without its epsilon. The published code does that too, ``tf.nn.log_poisson_loss`` of the logarithm of
    what its link (exp_linear) gives, with ``full``.

    Args:
        predictions: the rate p; or f, with ``log_input``.
        targets: y.
        valid: bins that count.
        log_input: take predictions as f itself, not as the rate, as ``tf.nn.log_poisson_loss(targets,
            predictions)`` and ``torch.nn.functional.poisson_nll_loss(log_input=True)`` do. The model then
            predicts log rates.
        full: add Stirling's approximation of log(y!), ``y log y - y + log(2 pi y) / 2`` where y is above 1,
            as ``compute_full_loss`` of the one and ``full`` of the other do. It moves no gradient.
    """
    if log_input:
        loss = torch.exp(predictions) - targets * predictions
    else:
        loss = predictions - targets * torch.log(predictions + TINY)
    if full:
        y = targets.clamp_min(1.0)
        stirling = y * torch.log(y) - y + 0.5 * torch.log(2.0 * math.pi * y)
        loss = loss + torch.where(targets > 1.0, stirling, torch.zeros_like(stirling))
    return _mean(loss, valid)


def mse(predictions: Tensor, targets: Tensor, valid: Tensor) -> Tensor:
    """Mean over valid bins and tracks of ``(p - y)^2``, on the scale of the targets, negative ones too."""
    return _mean((predictions - targets).square(), valid)


def multinomial(predictions: Tensor, targets: Tensor, valid: Tensor, epsilon: float = EPSILON) -> Tensor:
    """Where the counts lie, whatever their total: :func:`poisson_multinomial` with a total of weight 0."""
    return poisson_multinomial(predictions, targets, valid, 0.0, epsilon)


def poisson_multinomial(
    predictions: Tensor,
    targets: Tensor,
    valid: Tensor,
    total_weight: float = 0.2,
    epsilon: float = EPSILON,
) -> Tensor:
    """Borzoi's loss: where the counts lie (multinomial), plus how many (Poisson of the total).

    With sums over the n valid bins of one window and track, ``P = sum p``, ``Y = sum y``::

        [ -sum_b y_b log((p_b + epsilon) / sum_b (p_b + epsilon))
          + total_weight (P - Y log(P + epsilon)) ] / n

    averaged over windows (those with a valid bin) and tracks.
    """
    mask = valid.unsqueeze(-1).to(predictions.dtype)
    bins = mask.sum(dim=1)
    y = targets * mask
    shifted = (predictions + epsilon) * mask
    shape = torch.log(predictions + epsilon) - torch.log(shifted.sum(dim=1, keepdim=True).clamp_min(epsilon))
    multinomial = -(y * shape).sum(dim=1)
    total = (predictions * mask).sum(dim=1)
    count = total - y.sum(dim=1) * torch.log(total + epsilon)
    loss = (multinomial + total_weight * count) / bins.clamp_min(1.0)
    used = (bins > 0).to(loss.dtype)
    return (loss * used).sum() / (used.sum() * predictions.shape[-1]).clamp_min(1.0)


def wide_sums(values: Tensor, valid: Tensor, width: int) -> Tensor:
    """Sums over windows of ``width`` bins, a new one every half width: (B, windows, tracks).

    Invalid bins count as 0. Without a whole window the sum is over all bins.
    """
    masked = values * valid.unsqueeze(-1).to(values.dtype)
    if width == 1:
        return masked
    width = min(width, values.shape[1])
    pooled = F.avg_pool1d(masked.transpose(1, 2), width, stride=max(width // 2, 1)) * width
    return pooled.transpose(1, 2)


def log_mse(predictions: Tensor, targets: Tensor, valid: Tensor, width: int = 1) -> Tensor:
    """Mean of ``(log(1 + p) - log(1 + y))^2`` over valid bins, or over sums of ``width`` bins.

    Wide windows without a valid bin do not count.
    """
    p = wide_sums(predictions, valid, width)
    y = wide_sums(targets, valid, width)
    ones = torch.ones_like(predictions[..., :1])
    used = (wide_sums(ones, valid, width) > 0).to(p.dtype)
    error = (torch.log1p(p) - torch.log1p(y)).square() * used
    return error.sum() / (used.sum() * p.shape[-1]).clamp_min(1.0)


def contrast_values(
    predictions: Tensor,
    targets: Tensor,
    valid: Tensor,
    numerator: Sequence[int],
    denominator: Sequence[int],
    width: int,
    n0: float = 20.0,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Wide-window sums of two groups of tracks.

    Returns:
        predicted numerator and denominator, measured numerator and denominator, and the weight
        ``N / (N + n0)`` with N the measured total; each (B, windows).
    """
    p, y = wide_sums(predictions, valid, width), wide_sums(targets, valid, width)
    above, below = list(numerator), list(denominator)
    p_b, p_a = p[..., above].sum(-1), p[..., below].sum(-1)
    y_b, y_a = y[..., above].sum(-1), y[..., below].sum(-1)
    total = y_b + y_a
    weight = total / (total + n0).clamp_min(1e-12)
    return p_b, p_a, y_b, y_a, weight


def contrast(
    predictions: Tensor,
    targets: Tensor,
    valid: Tensor,
    pairs: Sequence[tuple[Sequence[int], Sequence[int]]],
    width: int,
    kind: str = "squared",
    pseudocount: float = 1.0,
    n0: float = 20.0,
) -> Tensor:
    """How well the ratio of two groups of tracks is predicted, in wide windows.

    For each pair (numerator, denominator) and each window of ``width`` bins let b, a be the measured
    sums and p_b, p_a the predicted ones, c the pseudocount, N = b + a and w = N / (N + n0).

    ``squared``: ``sum w (log2((p_b + c) / (p_a + c)) - log2((b + c) / (a + c)))^2 / sum w``

    ``binomial``: ``sum w (-b log q - a log(1 - q)) / N / sum w`` with
    ``q = (p_b + c) / (p_b + p_a + 2 c)``: the mean negative log likelihood of a read's group.

    Sums run over pairs, windows and batch; windows without a read have weight 0.
    """
    error = predictions.new_zeros(())
    weights = predictions.new_zeros(())
    c = pseudocount
    for numerator, denominator in pairs:
        p_b, p_a, b, a, weight = contrast_values(
            predictions, targets, valid, numerator, denominator, width, n0
        )
        ratio = torch.log(p_b + c) - torch.log(p_a + c)
        if kind == "squared":
            measured = torch.log(b + c) - torch.log(a + c)
            each = ((ratio - measured) / torch.log(ratio.new_tensor(2.0))).square()
        elif kind == "binomial":
            each = -(b * F.logsigmoid(ratio) + a * F.logsigmoid(-ratio)) / (b + a).clamp_min(1e-12)
        else:
            raise ConfigError(f"contrast kind is {kind!r}; allowed: squared, binomial")
        error = error + (weight * each).sum()
        weights = weights + weight.sum()
    return error / weights.clamp_min(1e-12)


class Objective:
    """The base loss plus the weighted extra terms of a configuration.

    Calling it with (predictions, targets, valid) gives the total and the unweighted parts by name.

    Raises:
        ConfigError: a term names a track that the dataset does not have.
    """

    def __init__(self, config: LossConfig, tracks: Sequence[Track], target_length: int) -> None:
        self.config = config
        self._index = {track.id: i for i, track in enumerate(tracks)}
        self.terms: list[tuple[str, TermConfig, list[tuple[list[int], list[int]]]]] = []
        used = {config.name}
        for term in config.terms:
            if term.width > target_length:
                raise ConfigError(
                    f"loss.terms: width {term.width} of {term.name} is more than the {target_length} "
                    "predicted bins"
                )
            name, number = term.name, 2
            while name in used:
                name, number = f"{term.name}_{number}", number + 1
            used.add(name)
            pairs = [(self._indices(pair.numerator), self._indices(pair.denominator)) for pair in term.pairs]
            self.terms.append((name, term, pairs))

    @property
    def signed(self) -> bool:
        """Whether targets may be negative."""
        return all(each.name == "mse" for each in self._all)

    @property
    def rates_only(self) -> str | None:
        """The first loss that is for predictions of 0 and more, None if there is none."""
        return next((each.name for each in self._all if each.name != "mse" and not each.log_input), None)

    @property
    def of_logarithms(self) -> bool:
        """Whether a loss takes predictions as logarithms."""
        return any(each.log_input for each in self._all)

    @property
    def _all(self) -> list[LossConfig | TermConfig]:
        return [self.config, *(term for _, term, _ in self.terms)]

    def check_targets(self, targets: np.ndarray, valid: np.ndarray, where: str) -> None:
        """Refuse negative targets where the loss is none of them.

        Args:
            targets: (B, bins, tracks).
            valid: (B, bins).
            where: what they are, for the message.

        Raises:
            ConfigError: a valid target is negative; names the loss, the track and what to do.
        """
        if self.signed or not (targets < 0).any():
            return
        found = np.argwhere((targets < 0) & valid[..., None])
        if not len(found):
            return
        value, track = targets[tuple(found[0])], list(self._index)[found[0][-1]]
        loss = next(each.name for each in self._all if each.name != "mse")
        raise ConfigError(
            f"{where}: track {track!r} has the target {value:g}, but the loss {loss} is for values of 0 and "
            "more; use loss.name: mse, or targets that are not negative (data.targets: affine shifts those "
            "of a table)"
        )

    def _indices(self, ids: Sequence[str]) -> list[int]:
        for name in ids:
            if name not in self._index:
                raise ConfigError(
                    f"loss.terms: the dataset has no track {name!r}; it has: {', '.join(self._index)}"
                )
        return [self._index[name] for name in ids]

    def __call__(
        self, predictions: Tensor, targets: Tensor, valid: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        base = _evaluate(self.config, predictions, targets, valid, 1)
        parts = {self.config.name: base}
        total = base
        for name, term, pairs in self.terms:
            if term.name == "contrast":
                value = contrast(
                    predictions, targets, valid, pairs, term.width, term.kind, term.pseudocount, term.n0
                )
            else:
                value = _evaluate(term, predictions, targets, valid, term.width)
            parts[name] = value
            total = total + term.weight * value
        return total, parts


def _evaluate(
    config: LossConfig | TermConfig, predictions: Tensor, targets: Tensor, valid: Tensor, width: int
) -> Tensor:
    if config.name == "poisson":
        return poisson(predictions, targets, valid)
    if config.name == "log_poisson":
        return log_poisson(predictions, targets, valid, config.log_input, config.full)
    if config.name == "multinomial":
        return multinomial(predictions, targets, valid)
    if config.name == "poisson_multinomial":
        return poisson_multinomial(predictions, targets, valid, config.total_weight)
    if config.name == "mse":
        return mse(predictions, targets, valid)
    return log_mse(predictions, targets, valid, width)
