"""Toy models whose prediction of every bin is known on paper."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor

from gexpr.errors import ConfigError, GexprError
from gexpr.evaluation.predict import ContigPredictor, central_bins
from gexpr.models.base import ModelConfig, SequenceModel
from gexpr.results import Track

TRACKS = [
    Track(0, "a+", "a+", strand="+", strand_pair=1),
    Track(1, "a-", "a-", strand="-", strand_pair=0),
    Track(2, "u", "u", strand=".", strand_pair=2),
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ToyConfig(ModelConfig):
    size: int = 4

    @property
    def bin_size(self) -> int:
        return self.size


class Toy(SequenceModel):
    """Track 0 counts A in a bin, track 1 counts T, track 2 what ``third`` says."""

    config_class = ToyConfig

    def __init__(self, context_length: int, target_length: int, third: str = "unknown") -> None:
        super().__init__(
            ToyConfig(context_length=context_length, target_length=target_length, heads={"x": 3})
        )
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.third = third

    def forward(self, x: Tensor, head: str | None = None) -> Tensor:
        bins = x.unflatten(1, (-1, self.bin_size)).sum(dim=2)
        if self.third == "place":
            third = torch.arange(bins.shape[1], dtype=torch.float32).expand(bins.shape[:2])
        elif self.third == "nan":
            third = torch.full(bins.shape[:2], float("nan"))
        else:
            third = self.bin_size - bins.sum(dim=2)
        return self.crop_bins(torch.stack([bins[..., 0], bins[..., 3], third], dim=2))


def _counts(codes: np.ndarray, bins: int, letter: int) -> np.ndarray:
    padded = np.full(bins * 4, 4)
    padded[: len(codes)] = codes[: bins * 4]
    return (padded.reshape(bins, 4) == letter).sum(axis=1)


@pytest.mark.parametrize("reverse_complement", [True, False])
@pytest.mark.parametrize(
    ("context", "target", "length"), [(64, 16, 1000), (64, 9 + 1, 401), (40, 4, 7), (64, 16, 3)]
)
@pytest.mark.parametrize("batch_size", [1, 3, None])
def test_every_bin_has_its_own_bases(
    context: int, target: int, length: int, batch_size: int | None, reverse_complement: bool
) -> None:
    codes = np.random.default_rng(length).integers(0, 5, length).astype(np.uint8)
    bins = -(-length // 4)
    predictor = ContigPredictor(
        Toy(context, target), TRACKS, reverse_complement=reverse_complement, batch_size=batch_size
    )
    seen = []
    values = predictor.predict(codes, bins, seen.append)
    np.testing.assert_array_equal(values[:, 0], _counts(codes, bins, 0))
    np.testing.assert_array_equal(values[:, 1], _counts(codes, bins, 3))
    np.testing.assert_array_equal(values[:, 2], _counts(codes, bins, 4))
    assert sum(seen) == len(predictor.windows(bins))


def test_bins_come_from_the_middle_half_of_a_window() -> None:
    predictor = ContigPredictor(Toy(64, 16, "place"), TRACKS, reverse_complement=False)
    places = predictor.predict(np.zeros(4000, dtype=np.uint8), 1000)[:, 2]
    assert places.min() >= 4
    assert places.max() <= 11


@pytest.mark.parametrize(
    ("context", "target", "expected"),
    [(64, 16, 8), (64, 10, 8), (64, 8, 8), (64, 4, 4), (60, 15, 7), (8, 2, 2), (4, 1, 1)],
)
def test_central_bins(context: int, target: int, expected: int) -> None:
    assert central_bins(Toy(context, target)) == expected


def test_strands_are_averaged_with_bins_reversed_and_tracks_swapped() -> None:
    class OneStrand(Toy):
        """Track 0 sees A weighted by its place in the bin, track 1 nothing: no symmetry of its own."""

        def forward(self, x: Tensor, head: str | None = None) -> Tensor:
            weights = torch.arange(1.0, 5.0)
            first = (x[..., 0].unflatten(1, (-1, 4)) * weights).sum(dim=2)
            return self.crop_bins(torch.stack([first, first * 0, first * 0], dim=2))

    codes = np.array([0, 0, 1, 3, 2, 3, 3, 0], dtype=np.uint8)
    values = ContigPredictor(OneStrand(40, 4), TRACKS).predict(codes, 2)
    # A of the forward strand at places 1, 2 | 4; T are A of the other strand, whose places run backwards.
    np.testing.assert_allclose(values[:, 0], [(1 + 2) / 2, 4 / 2])
    np.testing.assert_allclose(values[:, 1], [1 / 2, (3 + 2) / 2])


def test_stranded_track_without_partner_needs_no_rc() -> None:
    tracks = [TRACKS[0]._replace(strand_pair=0), TRACKS[1]._replace(strand_pair=1), TRACKS[2]]
    with pytest.raises(ConfigError, match="--no-rc"):
        ContigPredictor(Toy(64, 16), tracks)
    ContigPredictor(Toy(64, 16), tracks, reverse_complement=False)


def test_predictions_that_are_not_finite_are_refused() -> None:
    predictor = ContigPredictor(Toy(64, 16, "nan"), TRACKS)
    with pytest.raises(GexprError, match="not finite"):
        predictor.predict(np.zeros(100, dtype=np.uint8), 25)
