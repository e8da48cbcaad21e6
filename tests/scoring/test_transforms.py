"""Natural scale of squashed tracks, and statistics that a transform forbids."""

from __future__ import annotations

import pytest
import torch

from gexpr.checkpoints.tracks import check_tracks
from gexpr.errors import ConfigError
from gexpr.results import Track, affine_shift, affine_transform
from gexpr.scoring.transforms import NaturalScale, check_statistics, parse_squash


def track(transform: str, scale: float = 1.0) -> Track:
    return Track(0, "t", "t", transform=transform, scale=scale)


def test_power_with_soft_clip_is_inverted() -> None:
    # As written by the preparation of the data: power, soft clip, scale.
    counts = torch.tensor([0.0, 1.0, 100.0, 5000.0, 1e6])
    clip = 384.0
    powered = counts**0.75
    squashed = torch.where(powered > clip, clip + (powered - clip).clamp_min(0).sqrt(), powered) * 0.3
    natural = NaturalScale([track(f"squashed:power,exponent=0.75,clip_soft={clip}", 0.3)])(
        squashed[None, :, None]
    )
    assert torch.allclose(natural.flatten(), counts, rtol=1e-4)


def test_shifted_power_with_soft_clip_is_inverted_and_stays_scaled() -> None:
    counts = torch.tensor([0.0, 1.0, 100.0, 5000.0, 1e7])
    clip, scale = 384.0, 0.5
    powered = (1 + scale * counts).sqrt() - 1
    squashed = torch.where(powered > clip, clip - 1 + (powered - clip + 1).clamp_min(0).sqrt(), powered)
    natural = NaturalScale([track("squashed:shifted_power,exponent=0.5,clip_soft=384", scale)])(
        squashed[None, :, None]
    )
    assert torch.allclose(natural.flatten(), scale * counts, rtol=1e-4)


def test_other_tracks_are_left_alone() -> None:
    tracks = [track("count"), track("squashed:power,exponent=0.5"), track("log2")]
    values = torch.tensor([[[3.0, 3.0, -3.0]]])
    assert NaturalScale(tracks)(values).flatten().tolist() == [3.0, 9.0, -3.0]
    assert values.flatten().tolist() == [3.0, 3.0, -3.0]
    assert NaturalScale([track("count")])(values) is values


@pytest.mark.parametrize(
    "text",
    [
        "squashed:magic",
        "squashed:power",
        "squashed:power,exponent=2",
        "squashed:power,exponent=x",
        "squashed:power,exponent=.5,a=1",
    ],
)
def test_what_cannot_be_inverted_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="squashed"):
        parse_squash(text)


def test_an_unknown_transform_is_refused() -> None:
    with pytest.raises(ConfigError, match="unknown transform 'cubed'"):
        NaturalScale([track("cubed")])


def test_log_fc_of_a_linear_track_is_refused_with_the_reason() -> None:
    with pytest.raises(ConfigError, match=r"logFC.*'t'.*'linear'.*arbitrary.*SAD"):
        check_statistics([track("linear")], ["logFC"])
    check_statistics([track("linear")], ["SAD", "SAX", "D1", "D2"])


@pytest.mark.parametrize("transform", ["log2", "ln"])
def test_log_tracks_allow_log_fc_and_differences_only(transform: str) -> None:
    check_statistics([track(transform)], ["logFC", "SAD", "D2"])
    with pytest.raises(ConfigError, match="logarithms already"):
        check_statistics([track(transform)], ["logSAD"])


def test_an_affine_target_is_brought_back_and_then_linear() -> None:
    values = torch.tensor([-3.0, 0.0, 2.5, 17.25])
    mean, sd = 4.125, 2.5
    affine = track(affine_transform(-mean / sd), 1 / sd)
    predictions = torch.stack([(values - mean) / sd, values], dim=-1)[None]
    for unsquash in (True, False):
        natural = NaturalScale([affine, track("count")], unsquash)(predictions)
        torch.testing.assert_close(natural[0, :, 0], values)
        assert torch.equal(natural[0, :, 1], values)
    check_statistics([affine], ["SAD", "SAX", "D1", "D2"])
    with pytest.raises(ConfigError, match=r"logFC.*'t'.*affine.*arbitrary and may be negative.*SAD"):
        check_statistics([affine], ["logFC"])


@pytest.mark.parametrize("shift", [0.0, -1.5, 1e-300, 1 / 3, 1e300])
def test_the_shift_of_an_affine_transform_is_read_back_exactly(shift: float) -> None:
    assert affine_transform(shift) == f"affine:shift={shift!r}"
    assert affine_shift(affine_transform(shift)) == shift


def test_what_is_not_affine_has_no_shift() -> None:
    assert affine_shift("count") is None
    with pytest.raises(ValueError, match="nan"):
        affine_transform(float("nan"))


@pytest.mark.parametrize(
    "text", ["affine", "affine:", "affine:shift=", "affine:shift=x", "affine:shift=nan", "affine:scale=1"]
)
def test_a_broken_affine_transform_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="affine:shift= and a finite number"):
        affine_shift(text)
    with pytest.raises(ConfigError, match="track 't'"):
        NaturalScale([track(text)])
    with pytest.raises(ValueError, match="track 0"):
        check_tracks([track(text)._replace(strand_pair=0)])
