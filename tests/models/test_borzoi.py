"""Borzoi: the published size, its packed tokens, lengths."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from plain_flashzoi import PlainFlashAttention
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from toy_models import BaseCounts, variant, write_fasta

from gexpr.errors import ConfigError
from gexpr.genome.fasta import Fasta
from gexpr.models.base import on_meta_device, parameter_count
from gexpr.models.borzoi import FLASHZOI, Borzoi, BorzoiConfig
from gexpr.models.enformer import MultiheadAttention
from gexpr.models.layers import gelu_tanh
from gexpr.models.positions import central_mask_relative_features
from gexpr.scoring.engine import FastaWindows, VariantScorer
from gexpr.scoring.predictor import Predictor
from gexpr.training.memory import checkpoint_activations

SMALL = dict(
    context_length=512,
    target_length=96,
    heads={"human": 3},
    stem_channels=6,
    tower_channels=(8, 10, 12),
    depth=1,
    attention_heads=2,
    key_size=4,
    relative_features=8,
    final_channels=None,
)
SMALL_FLASHZOI = {
    **SMALL,
    **FLASHZOI,
    "tower_channels": (8, 16, 24),
    "depth": 2,
    "attention_heads": 4,
    "key_value_heads": 2,
    "key_size": 6,
    "rotary_features": 4,
}


def drawn(**changes: object) -> Borzoi:
    """A small Flashzoi without weights of zero, in float64."""
    torch.manual_seed(3)
    model = Borzoi(BorzoiConfig.from_dict({**SMALL_FLASHZOI, **changes}))
    for each in model.parameters():
        torch.nn.init.normal_(each, std=each[0].numel() ** -0.5 if each.ndim > 1 else 0.3)
    return model.double()


def test_the_published_size() -> None:
    model = on_meta_device(Borzoi, BorzoiConfig())
    assert parameter_count(model) == 190_902_667
    assert (model.bin_size, model.token_size, model.crop) == (32, 128, 5120)


def test_the_published_size_of_flashzoi() -> None:
    """Borzoi's, but for the attention of eight layers.

    Of each: queries of 8 heads, keys and values of 4 each, of 192 numbers, with biases:
    (8 + 4 + 4) * 192 * (1536 + 1) = 4,721,664; output (1536 + 1) * 1536 = 2,360,832; together 7,082,496.
    Borzoi's: queries and keys 2 * 1536 * 512 = 1,572,864; values 1536 * 1536 = 2,359,296; output 2,360,832;
    features 32 * 512 = 16,384; two biases 2 * 512 = 1,024; together 6,310,400.
    """
    model = on_meta_device(Borzoi, BorzoiConfig(**FLASHZOI))
    attention = model.transformer[0].attention
    assert parameter_count(attention) == 7_082_496
    assert parameter_count(model) == 190_902_667 + 8 * (7_082_496 - 6_310_400) == 197_079_435


@pytest.mark.parametrize("heads", [(4, 4, 6), (4, 2, 4), (6, 2, 2), (3, 1, 8)], ids=str)
def test_grouped_heads_with_rotary_positions_are_their_formula(heads: tuple[int, int, int]) -> None:
    count, shared, features = heads
    width = 8 * count
    settings = dict(attention_heads=count, key_value_heads=shared, key_size=8, rotary_features=features)
    config = BorzoiConfig.from_dict({**SMALL_FLASHZOI, **settings, "tower_channels": (8, 16, width)})
    torch.manual_seed(2)
    ours = MultiheadAttention(config, None).double().eval()
    theirs = PlainFlashAttention(width, count, shared, features, 20_000).double()
    for each in ours.parameters():
        torch.nn.init.normal_(each, std=0.5)
    layers = (ours.to_query, ours.to_key, ours.to_value)
    with torch.no_grad():
        theirs.Wqkv.weight.copy_(torch.cat([layer.weight for layer in layers]))
        theirs.Wqkv.bias.copy_(torch.cat([layer.bias for layer in layers]))
        theirs.out_proj.load_state_dict(ours.to_output.state_dict())
    x = torch.randn(2, 13, width, dtype=torch.float64)
    expected = theirs(x)
    torch.testing.assert_close(ours(x), expected, rtol=1e-9, atol=1e-9)
    with torch.inference_mode():
        torch.testing.assert_close(ours(x), expected, rtol=1e-9, atol=1e-9)
        assert not torch.allclose(ours(x.flip(1)).flip(1), expected), "positions matter"


class Largest(TorchDispatchMode):
    """The size of the largest tensor that is made, and which operations made any."""

    def __init__(self) -> None:
        super().__init__()
        self.size, self.names = 0, set[str]()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        result = func(*args, **(kwargs or {}))
        self.names.add(str(func))
        for each in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(each, torch.Tensor):
                self.size = max(self.size, each.numel())
        return result


@pytest.mark.parametrize("training", [False, True])
def test_logits_of_flashzoi_are_never_all_in_memory(training: bool) -> None:
    config = BorzoiConfig.from_dict(SMALL_FLASHZOI)
    attention = MultiheadAttention(config, None)
    attention.attention_dropout = 0.0
    x = torch.randn(1, 2048, 24)
    with Largest() as largest, torch.set_grad_enabled(training):
        attention(x)
    assert any("flash_attention" in name for name in largest.names)
    assert largest.size <= 4 * x.numel() < 2048 * 2048


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_flash_kernels_compute_flashzoi_in_half_precision(dtype: torch.dtype) -> None:
    torch.manual_seed(1)
    attention = MultiheadAttention(BorzoiConfig(**FLASHZOI, attention_dropout=0.0), None).eval()
    torch.nn.init.normal_(attention.to_output.weight, std=1536**-0.5)
    x = torch.randn(1, 512, 1536)
    with torch.inference_mode():
        expected = attention(x)
        attention.cuda()
        with sdpa_kernel(SDPBackend.FLASH_ATTENTION), torch.autocast("cuda", dtype):
            found = attention(x.cuda())
    assert found.dtype == dtype
    assert (found.cpu().float() - expected).norm() < 0.03 * expected.norm()


def test_gradients_of_flashzoi_do_not_depend_on_kept_activations() -> None:
    plain, sparing = (drawn(dropout=0.1, attention_dropout=0.1).train() for _ in range(2))
    checkpoint_activations(sparing)
    x = torch.eye(4, dtype=torch.float64)[torch.randint(0, 4, (2, 512))]
    for model in (plain, sparing):
        torch.manual_seed(5)
        model(x).square().sum().backward()
    for (name, each), other in zip(plain.named_parameters(), sparing.parameters(), strict=True):
        assert each.grad is not None and other.grad is not None
        assert torch.equal(each.grad, other.grad) and each.grad.any(), name


def test_the_engines_agree_on_flashzoi(tmp_path: Path) -> None:
    model = drawn(target_length=64, heads={"tracks": 4}).eval()
    model.tracks = BaseCounts().tracks
    sequence = "".join(np.random.default_rng(7).choice(list("ACGT"), 1500))
    genome = Fasta(write_fasta(tmp_path / "toy.fa", {"chr1": sequence}), tmp_path / "cache")
    changes = [
        (sequence[700], "A" if sequence[700] != "A" else "C"),
        ("", "GATTACA"),
        (sequence[700:705], ""),
    ]
    variants = [variant(700, *alleles, row) for row, alleles in enumerate(changes)]
    found = []
    for engine in ("plain", "incremental"):
        predictor = Predictor(copy.deepcopy(model), batch_size=4)
        scorer = VariantScorer(predictor, FastaWindows(genome), statistics=["D2"], engine=engine)
        assert scorer.engine == engine
        found.append(scorer.score(variants)["D2"])
    assert (found[0] > 1e-5).all()
    np.testing.assert_allclose(found[1], found[0], rtol=1e-6)


def test_flashzoi_starts_as_published() -> None:
    torch.manual_seed(1)
    attention = Borzoi(BorzoiConfig.from_dict(SMALL_FLASHZOI)).transformer[0].attention
    for layer in (attention.to_query, attention.to_key, attention.to_value):
        assert (layer.bias == 1).all() and layer.weight.std().item() == pytest.approx(
            (2 / 24) ** 0.5, rel=0.2
        )
    assert not attention.to_output.weight.any() and not attention.to_output.bias.any()


def test_tokens_hold_what_the_unet_joins() -> None:
    model = Borzoi(BorzoiConfig.from_dict(SMALL)).double().eval()
    joined: list[torch.Tensor] = []
    for block in model.tower:
        block.register_forward_hook(lambda module, given, result: joined.append(result))
    x = torch.eye(4, dtype=torch.float64)[torch.randint(0, 4, (2, 512))]
    with torch.inference_mode():
        tokens = model.encode(x)
        assert tokens.shape == (2, 32, 12 + 2 * 12 + 4 * 10)
        last, packed = model.unpack(tokens)
        assert [each.shape for each in packed] == [(2, 64, 12), (2, 128, 10)]
        assert torch.equal(packed[0], joined[2]) and torch.equal(packed[1], joined[1])
        assert torch.equal(last, torch.maximum(joined[2][:, 0::2], joined[2][:, 1::2]))
        assert model(x).shape == (2, 96, 3)


def test_gradients_and_predictions_take_the_same_way() -> None:
    torch.manual_seed(3)
    model = Borzoi(BorzoiConfig.from_dict({**SMALL, "final_channels": 14})).double().eval()
    for each in model.parameters():
        torch.nn.init.normal_(each, std=0.3)
    x = torch.eye(4, dtype=torch.float64)[torch.randint(0, 4, (1, 512))]
    with_gradient = model(x)
    with torch.inference_mode():
        torch.testing.assert_close(model(x), with_gradient.detach(), rtol=1e-10, atol=1e-10)
    with_gradient.sum().backward()
    assert all(each.grad is not None for each in model.parameters())


def test_the_approximation_of_gelu() -> None:
    x = torch.linspace(-9, 9, 4001, dtype=torch.float64)
    with torch.inference_mode():
        torch.testing.assert_close(gelu_tanh(x), F.gelu(x, approximate="tanh"), rtol=0, atol=1e-14)
        assert torch.isfinite(gelu_tanh(torch.tensor([-1e4, 1e4]))).all()


def test_features_of_distances() -> None:
    features = central_mask_relative_features(1024, 32, torch.float64)
    assert features.shape == (2047, 32)
    middle = features[1023]
    assert middle[:16].tolist() == [1.0] * 16 and middle[16:].tolist() == [0.0] * 16
    for i in (1, 7, 16):
        reach = (1025 ** (i / 16) - 1) - 1e-9
        assert features[1023 + int(reach), i - 1] == 1
        if int(reach) + 1 < 1024:
            assert features[1023 + int(reach) + 1, i - 1] == 0
        assert features[1023 - int(reach), 16 + i - 1] == (-1 if int(reach) else 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"context_length": 520}, "is not a multiple of a token's 16 bp"),
        ({"upsamplings": 4}, "upsamplings is 4; the tower has 3 blocks to join"),
        ({"relative_features": 7}, "relative_features is 7; it must be even"),
        ({"tower_channels": []}, "tower_channels is empty"),
        ({"activation": "relu"}, "activation is 'relu'"),
        ({"tower_channels": [8, 9]}, "the tower's last width 9 is not a multiple of attention_heads 2"),
        ({"stem_kernel": 4}, "stem_kernel is 4; it must be odd"),
        ({"positions": "enformer"}, "positions is 'enformer'; it must be one of: central_mask, rotary"),
        (
            {"key_value_heads": 1},
            "key_value_heads is 1; with positions 'central_mask' it must be attention_h",
        ),
        (
            {"positions": "rotary", "key_value_heads": 3},
            "key_value_heads is 3; it must divide attention_heads 2",
        ),
        (
            {"positions": "rotary", "rotary_features": 6},
            "rotary_features is 6; it must be even and at most key",
        ),
        (
            {"positions": "rotary", "rotary_features": 3},
            "rotary_features is 3; it must be even and at most key",
        ),
        (
            {"positions": "rotary", "key_size": 5},
            "rotary_features is 5; it must be even and at most key_size 5",
        ),
        ({"positions": "rotary", "rotary_base": 1}, "rotary_base is 1; it must be a number above 1"),
        ({"projection_bias": 1}, "projection_bias is 1; it must be true or false"),
    ],
)
def test_settings_that_cannot_work(change: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        BorzoiConfig.from_dict({**SMALL, **change})
