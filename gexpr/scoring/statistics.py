"""Score statistics: pure functions from reference and alternate predictions to one number a track.

Every function takes ``reference`` and ``alternate`` of shape (variants, bins, tracks) and a
``mask`` of shape (variants, bins), True where a bin is scored, and returns (variants, tracks) in
float32. Bins outside the mask never matter, whatever they hold. Sums are taken in float64, so
that a difference of two large sums keeps its digits. The conventions are those of basenji_sad,
hound_snp and AlphaGenome, as named in :mod:`gexpr.scoring.definitions`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch

from gexpr.results import Track
from gexpr.scoring.definitions import JS_PSEUDOCOUNT, canonical_statistic
from gexpr.scoring.devices import indices
from gexpr.scoring.transforms import LOG_UNITS

Tensor = torch.Tensor


def _keep(values: Tensor, mask: Tensor) -> Tensor:
    """``values`` with 0 in every bin outside the mask."""
    return torch.where(mask.unsqueeze(-1), values, torch.zeros((), dtype=values.dtype, device=values.device))


def _sum(values: Tensor) -> Tensor:
    return values.sum(dim=1, dtype=torch.float64)


def log_fc(reference: Tensor, alternate: Tensor, mask: Tensor, pseudocount: float = 1.0) -> Tensor:
    """log2(sum(alt) + c) - log2(sum(ref) + c)."""
    new = torch.log2(_sum(_keep(alternate, mask)) + pseudocount)
    old = torch.log2(_sum(_keep(reference, mask)) + pseudocount)
    return (new - old).float()


def log_fc_of_logs(reference: Tensor, alternate: Tensor, mask: Tensor, log2_units: float = 1.0) -> Tensor:
    """Mean over bins of alt - ref, in log2 units, for tracks that predict a logarithm."""
    bins = mask.sum(dim=1, dtype=torch.float64).unsqueeze(-1)
    return (_sum(_keep(alternate - reference, mask)) / bins * log2_units).float()


def sad(reference: Tensor, alternate: Tensor, mask: Tensor) -> Tensor:
    """sum(alt) - sum(ref)."""
    return (_sum(_keep(alternate, mask)) - _sum(_keep(reference, mask))).float()


def log_sad(reference: Tensor, alternate: Tensor, mask: Tensor) -> Tensor:
    """sum(log2(alt + 1)) - sum(log2(ref + 1))."""
    new, old = torch.log2(_keep(alternate, mask) + 1.0), torch.log2(_keep(reference, mask) + 1.0)
    return (_sum(new) - _sum(old)).float()


def sqrt_sad(reference: Tensor, alternate: Tensor, mask: Tensor) -> Tensor:
    """sum(sqrt(alt)) - sum(sqrt(ref))."""
    return (_sum(_keep(alternate, mask).sqrt()) - _sum(_keep(reference, mask).sqrt())).float()


def sax(reference: Tensor, alternate: Tensor, mask: Tensor) -> Tensor:
    """The signed alt - ref at the bin where abs(alt - ref) is largest; the first of equals."""
    difference = _keep(alternate - reference, mask)
    where = difference.abs().argmax(dim=1, keepdim=True)
    return difference.gather(1, where).squeeze(1).float()


def d1(reference: Tensor, alternate: Tensor, mask: Tensor) -> Tensor:
    """sum(|alt - ref|)."""
    return _sum(_keep(alternate - reference, mask).abs()).float()


def d2(reference: Tensor, alternate: Tensor, mask: Tensor) -> Tensor:
    """sqrt(sum((alt - ref)^2))."""
    return _sum(_keep(alternate - reference, mask).square()).sqrt().float()


def log_d2(reference: Tensor, alternate: Tensor, mask: Tensor) -> Tensor:
    """sqrt(sum((log2(alt + 1) - log2(ref + 1))^2))."""
    difference = torch.log2(_keep(alternate, mask) + 1.0) - torch.log2(_keep(reference, mask) + 1.0)
    return _sum(difference.square()).sqrt().float()


def js(reference: Tensor, alternate: Tensor, mask: Tensor) -> Tensor:
    """Jensen-Shannon divergence in bits of the two profiles over bins, each normalized to sum 1.

    1e-6 is added to every scored bin first. The value lies between 0 and 1. (Peers' ``JS`` is half
    the Jeffreys divergence, which is another quantity.)
    """
    weight = mask.unsqueeze(-1).to(torch.float64)
    p = (_keep(reference, mask).double() + JS_PSEUDOCOUNT) * weight
    q = (_keep(alternate, mask).double() + JS_PSEUDOCOUNT) * weight
    p, q = p / p.sum(dim=1, keepdim=True), q / q.sum(dim=1, keepdim=True)
    middle = (p + q) / 2

    def entropy(values: Tensor) -> Tensor:
        return -torch.special.xlogy(values, values).sum(dim=1)

    nats = entropy(middle) - (entropy(p) + entropy(q)) / 2
    return (nats / math.log(2.0)).clamp_min(0.0).float()


def active_sum(reference: Tensor, alternate: Tensor, mask: Tensor) -> Tensor:
    """max(sum(alt), sum(ref))."""
    return torch.maximum(_sum(_keep(alternate, mask)), _sum(_keep(reference, mask))).float()


_FUNCTIONS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "SAD": sad,
    "logSAD": log_sad,
    "sqrtSAD": sqrt_sad,
    "SAX": sax,
    "D1": d1,
    "D2": d2,
    "logD2": log_d2,
    "JS": js,
    "ACTIVE_SUM": active_sum,
}


def compute(
    name: str,
    reference: Tensor,
    alternate: Tensor,
    mask: Tensor | None = None,
    *,
    pseudocount: float = 1.0,
    tracks: Sequence[Track] | None = None,
) -> Tensor:
    """One statistic of predictions in natural scale.

    Args:
        name: any name or alias of :data:`gexpr.scoring.definitions.STATISTICS`.
        reference: (variants, bins, tracks).
        alternate: the same shape.
        mask: (variants, bins) bool; None scores every bin.
        pseudocount: the c of ``logFC``.
        tracks: when given, ``logFC`` of tracks with a ``log2`` or ``ln`` transform is their mean
            difference in log2 units.

    Returns:
        (variants, tracks) float32.
    """
    name = canonical_statistic(name)
    if mask is None:
        mask = torch.ones(reference.shape[:2], dtype=torch.bool, device=reference.device)
    if name != "logFC":
        return _FUNCTIONS[name](reference, alternate, mask)
    scores = log_fc(reference, alternate, mask, pseudocount)
    for transform, units in LOG_UNITS.items():
        columns = [i for i, track in enumerate(tracks or ()) if track.transform == transform]
        if columns:
            places = indices(columns, scores.device)
            scores[:, places] = log_fc_of_logs(reference[..., places], alternate[..., places], mask, units)
    return scores
