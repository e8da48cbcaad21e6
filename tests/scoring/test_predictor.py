"""Strands, shifts, batches, heads and devices of the predictor, on models known on paper."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from toy_models import BaseCounts, CenterBase, TwoHeads, Unpaired

from gexpr.errors import ConfigError, GexprError
from gexpr.genome.codes import encode, reverse_complement
from gexpr.scoring.devices import default_batch_size, numeric_precision, resolve_device
from gexpr.scoring.predictor import Predictor

L = 64


def random_codes(rows: int, length: int = L, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 5, (rows, length), dtype=np.uint8)


def counts(codes: np.ndarray, bin_size: int = 4, first: int = 16, bins: int = 8) -> np.ndarray:
    core = codes[:, first : first + bins * bin_size].reshape(len(codes), bins, bin_size)
    return np.stack([(core == base).sum(2) for base in range(4)], axis=-1).astype(np.float32)


@pytest.mark.parametrize("rc", [False, True])
def test_an_equivariant_model_predicts_the_same_with_and_without_reverse_complement(rc: bool) -> None:
    codes = random_codes(3)
    predictor = Predictor(BaseCounts(), batch_size=4, reverse_complement=rc)
    assert np.array_equal(predictor.predict(codes).numpy(), counts(codes))
    assert len(predictor.passes) == 1 + rc


def test_the_reverse_pass_shows_the_reverse_complement_and_turns_bins_back() -> None:
    codes = random_codes(2)
    passes = dict(Predictor(Unpaired(), batch_size=2).predict_passes(codes))
    forward, reverse = (passes[key].numpy() for key in sorted(passes))
    assert np.array_equal(forward, counts(codes))
    assert np.array_equal(reverse, counts(reverse_complement(codes))[:, ::-1])
    assert np.array_equal(reverse[..., 0], forward[..., 3])  # A on the other strand is T here


def test_strand_pairs_are_swapped_for_a_selection_without_the_partner() -> None:
    codes = random_codes(2)
    predictor = Predictor(BaseCounts(), tracks=[2, 0], batch_size=2)
    assert [track.id for track in predictor.tracks] == ["count_G", "count_A"]
    assert np.array_equal(predictor.predict(codes).numpy(), counts(codes)[..., [2, 0]])


def test_a_shift_moves_the_window_to_the_right() -> None:
    codes = random_codes(1, L + 2 * 3)
    predictor = Predictor(BaseCounts(), batch_size=1, shifts=(3, -1), reverse_complement=False)
    assert (predictor.flank, predictor.window_length) == (3, L + 6)
    passes = {each.shift: values.numpy() for each, values in predictor.predict_passes(codes)}
    assert np.array_equal(passes[-1], counts(codes[:, 2 : 2 + L]))
    assert np.array_equal(passes[3], counts(codes[:, 6 : 6 + L]))
    mean = predictor.predict(codes).numpy()
    assert np.array_equal(mean, (passes[-1] + passes[3]) / 2)


def test_unknown_bases_count_nowhere() -> None:
    codes = encode("N" * 30 + "ACGT" + "n" * 30)[None]
    assert Predictor(BaseCounts(), batch_size=1).predict(codes).sum().item() == 4


def test_the_models_forward_always_sees_the_full_batch() -> None:
    seen = []

    class Watched(BaseCounts):
        def forward(self, x: torch.Tensor, head: str | None = None) -> torch.Tensor:
            seen.append(tuple(x.shape))
            return super().forward(x)

    predictor = Predictor(Watched(), batch_size=5, reverse_complement=False)
    assert predictor.predict(random_codes(2)).shape == (2, 8, 4)
    assert predictor.predict(random_codes(5)).shape == (5, 8, 4)
    assert seen == [(5, L, 4)] * 2
    with pytest.raises(ValueError, match=r"1\.\.5"):
        predictor.predict(random_codes(6))


def test_heads_are_predicted_as_the_tracks_ask() -> None:
    codes = random_codes(2)
    assert np.array_equal(Predictor(TwoHeads(), batch_size=2).predict(codes).numpy(), counts(codes)[..., :2])
    both = Predictor(TwoHeads(), tracks=[3, 0, 2], batch_size=2).predict(codes).numpy()
    assert np.array_equal(both, counts(codes)[..., [3, 0, 2]])


def test_squashed_tracks_are_averaged_in_natural_scale() -> None:
    model = Unpaired()
    model.tracks = [track._replace(transform="squashed:power,exponent=0.5") for track in model.tracks]
    codes = random_codes(1)
    forward, reverse = counts(codes) ** 2, counts(reverse_complement(codes))[:, ::-1] ** 2
    assert np.allclose(Predictor(model, batch_size=1).predict(codes).numpy(), (forward + reverse) / 2)


def test_the_reverse_strand_is_inverted_in_the_scale_of_the_partner() -> None:
    model = BaseCounts()
    squash = "squashed:power,exponent=0.5"
    model.tracks = [track._replace(transform=squash, scale=1.0 + track.index) for track in model.tracks]
    codes = random_codes(1)
    forward = (counts(codes) / np.float32([1, 2, 3, 4])) ** 2
    reverse = ((counts(reverse_complement(codes))[:, ::-1] / np.float32([1, 2, 3, 4])) ** 2)[..., ::-1]
    assert np.allclose(Predictor(model, batch_size=1).predict(codes).numpy(), (forward + reverse) / 2)


def test_squashed_tracks_can_be_left_squashed() -> None:
    model = Unpaired()
    model.tracks = [track._replace(transform="squashed:in a way nobody knows") for track in model.tracks]
    codes = random_codes(1)
    forward, reverse = counts(codes), counts(reverse_complement(codes))[:, ::-1]
    left = Predictor(model, batch_size=1, unsquash=False).predict(codes).numpy()
    assert np.allclose(left, (forward + reverse) / 2)
    with pytest.raises(ConfigError, match="cannot be inverted"):
        Predictor(model, batch_size=1)


def test_the_model_goes_back_as_it_came() -> None:
    model = CenterBase()
    model.train()
    with Predictor(model):
        assert not model.training
    assert model.training


@pytest.mark.parametrize("precision", ["tf32", "fp16", "bf16"])
def test_precision_is_set_inside_only(precision: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    seen = []

    class Watched(BaseCounts):
        def forward(self, x: torch.Tensor, head: str | None = None) -> torch.Tensor:
            seen.append((torch.is_autocast_enabled("cpu"), torch.backends.cudnn.allow_tf32))
            return super().forward(x)

    result = Predictor(Watched(), batch_size=1, precision=precision).predict(random_codes(1))
    assert result.dtype == torch.float32
    assert set(seen) == {(precision != "tf32", precision == "tf32")}
    assert (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32) == before
    assert ("bf16" in capsys.readouterr().err) == (precision == "bf16")


def test_fp32_turns_tf32_off() -> None:
    with numeric_precision("fp32", torch.device("cpu")):
        assert not torch.backends.cudnn.allow_tf32 and not torch.backends.cuda.matmul.allow_tf32


def test_out_of_memory_suggests_a_smaller_batch() -> None:
    class Greedy(BaseCounts):
        def forward(self, x: torch.Tensor, head: str | None = None) -> torch.Tensor:
            raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(GexprError, match="smaller --batch-size"):
        Predictor(Greedy(), batch_size=8).predict(random_codes(1))
    with pytest.raises(GexprError, match="more memory"):
        Predictor(Greedy(), batch_size=1).predict(random_codes(1))


def test_other_errors_of_the_model_are_not_hidden() -> None:
    class Broken(BaseCounts):
        def forward(self, x: torch.Tensor, head: str | None = None) -> torch.Tensor:
            raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        Predictor(Broken(), batch_size=1).predict(random_codes(1))


@pytest.mark.parametrize(
    "settings",
    [
        {"batch_size": 0},
        {"shifts": ()},
        {"shifts": (1, 1)},
        {"shifts": (0, 16)},
        {"shifts": (-16,)},
        {"precision": "fp8"},
        {"tracks": []},
        {"tracks": [4]},
    ],
)
def test_bad_settings_are_refused(settings: dict) -> None:
    with pytest.raises(ConfigError):
        Predictor(BaseCounts(), **settings)


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve_device("CPU") == torch.device("cpu")
    with pytest.raises(ConfigError, match="unknown device 'tpu'"):
        resolve_device("tpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("auto") == torch.device("cpu")
    with pytest.raises(GexprError, match="no CUDA device"):
        resolve_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resolve_device("auto") == torch.device("cuda:0")
    assert resolve_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(GexprError, match="0 to 1"):
        resolve_device("cuda:2")
    for several in ("cuda:0,1", "cuda:all"):
        with pytest.raises(ConfigError, match="is 2 devices; name one"):
            resolve_device(several)


def test_default_batch_size_shrinks_with_the_context() -> None:
    cpu = torch.device("cpu")
    assert [default_batch_size(n, cpu) for n in (64, 16384, 196_608)] == [128, 8, 1]
