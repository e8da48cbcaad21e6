"""Models of constructs: sizes, computation, geometry, training and scoring."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from click.testing import CliRunner
from torch import Tensor, nn
from toy_models import write_fasta, write_vcf

from gexpr import checkpoints
from gexpr.cli.main import main
from gexpr.datasets import PrepareOptions, prepare
from gexpr.errors import ConfigError
from gexpr.genome.codes import encode
from gexpr.models import registry
from gexpr.models.base import SequenceModel, parameter_count
from gexpr.models.cnn import Cnn
from gexpr.models.enformer import MultiheadAttention
from gexpr.models.layers import one_hot
from gexpr.models.mini_enformer import MiniEnformer, SamePool
from gexpr.models.multiscale import LastStates, Multiscale
from gexpr.models.positions import relative_features
from gexpr.training import from_dict, train

NAMES = ("cnn", "mini_enformer", "multiscale")


def drawn(architecture: str, **settings: Any) -> Any:
    """A model in evaluation mode without weights of zero, with running statistics of its own."""
    torch.manual_seed(6)
    model = registry.build(architecture, settings).double().eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5 if parameter.ndim > 1 else 0.3)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d):
            nn.init.normal_(module.running_mean, std=0.2)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    return model


def sequences(count: int, length: int = 110, seed: int = 1) -> Tensor:
    codes = torch.randint(0, 5, (count, length), generator=torch.Generator().manual_seed(seed))
    return one_hot(codes, torch.float64)


def test_the_small_enformer_has_the_published_size() -> None:
    model = registry.build("mini_enformer", {})
    assert parameter_count(model) == 1_995_617
    assert parameter_count(model.stem) == 3_456
    assert parameter_count(model.tower) == 223_584
    assert [parameter_count(block) for block in model.transformer] == [432_640] * 4
    assert parameter_count(model.final) == 37_440
    assert parameter_count(model.heads) == 577
    assert (model.config.seen_length, model.config.bins) == (85, 6)


def test_the_multiscale_model_has_the_published_size() -> None:
    model = registry.build("multiscale", {})
    statistics = sum(tensor.numel() for name, tensor in model.named_buffers() if "running" in name)
    assert parameter_count(model) + statistics == 319_657
    assert statistics == 2_304
    frozen = registry.build("multiscale", {"frozen_transformer": True})
    trained = sum(each.numel() for each in frozen.parameters() if each.requires_grad)
    assert trained == 150_313
    assert trained + statistics == 152_617
    assert frozen.state_dict().keys() == model.state_dict().keys()


def test_what_the_published_run_did_not_train() -> None:
    model = registry.build("multiscale", {"frozen_transformer": True})
    model(sequences(2).float()).sum().backward()
    without = {name for name, each in model.named_parameters() if each.grad is None}
    assert without == {
        name for name, _ in model.named_parameters() if name.startswith("transformer.") and "norm" not in name
    }
    for block in model.transformer:
        x = torch.randn(1, 110, 96)
        assert not block.attention(block.attention_norm(x)).any()


def test_the_plain_network_has_a_third_of_a_million_parameters() -> None:
    assert 300_000 < parameter_count(registry.build("cnn", {})) < 1_000_000


@pytest.mark.parametrize("architecture", NAMES)
@pytest.mark.parametrize(("context", "tracks"), [(110, 1), (130, 3)])
def test_predictions_are_one_bin_as_long_as_the_context(architecture: str, context: int, tracks: int) -> None:
    settings = {"context_length": context, "heads": {"a": tracks, "b": 2}}
    model = registry.build(architecture, settings).eval()
    assert (model.bin_size, model.target_length, model.crop) == (context, 1, 0)
    x = sequences(2, context).float()
    assert model(x).shape == (2, 1, tracks)
    assert model(x, "b").shape == (2, 1, 2)
    longer = torch.cat([torch.zeros(2, context, 4), x, torch.ones(2, context, 4)], dim=1)
    assert torch.equal(model(longer), model(x))
    with pytest.raises(ConfigError, match="not a multiple of the bin size"):
        model(x[:, 1:])


@pytest.mark.parametrize("architecture", NAMES)
def test_the_link_says_whether_predictions_may_be_negative(architecture: str) -> None:
    linear, softplus = (drawn(architecture, link=link) for link in ("linear", "softplus"))
    x = sequences(8)
    torch.testing.assert_close(softplus(x), F.softplus(linear(x)))
    for head in linear.heads.values():
        nn.init.constant_(head.bias, -1000.0)
    assert (linear(x) < 0).all()


@pytest.mark.parametrize("architecture", NAMES)
def test_bases_that_are_trimmed_do_not_matter(architecture: str) -> None:
    model = drawn(architecture, trim_left=15, trim_right=10)
    x = sequences(1)
    changed = x.clone()
    changed[:, :15] = changed[:, 100:] = 0
    assert torch.equal(model(x), model(changed))
    for place in (15, 99):
        changed = x.clone()
        changed[:, place] = 1 - changed[:, place]
        assert not torch.equal(model(x), model(changed)), place


def batch_norm(x: Tensor, norm: nn.BatchNorm1d, epsilon: float) -> Tensor:
    """Of (B, C, L)."""
    return F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=epsilon)


def attention(module: MultiheadAttention, x: Tensor) -> Tensor:
    """Enformer's attention, pair by pair: (B, T, C) -> (B, T, C)."""
    length, heads = x.shape[1], module.heads
    features = relative_features(length, module.features, x.dtype)
    split = lambda y: y.unflatten(-1, (heads, -1))  # noqa: E731
    q = split(module.to_query(x)) * module.key_size**-0.5
    k, v = split(module.to_key(x)), split(module.to_value(x))
    r = split(module.to_relative_key(features))
    rows = []
    for i in range(length):
        logits = torch.stack(
            [
                ((q[:, i] + module.content_bias) * k[:, j]).sum(-1)
                + ((q[:, i] + module.position_bias) * r[j - i + length - 1]).sum(-1)
                for j in range(length)
            ],
            dim=-1,
        )
        rows.append(torch.einsum("bhj,bjhc->bhc", logits.softmax(-1), v).flatten(1))
    return module.to_output(torch.stack(rows, dim=1))


def test_the_small_enformer_computes_what_was_published() -> None:
    model: MiniEnformer = drawn("mini_enformer")
    x = sequences(2)

    def gelu(x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)

    def conv_block(x: Tensor, block: nn.Module) -> Tensor:
        x, kernel = gelu(batch_norm(x, block.norm, 1e-5)), block.conv.kernel_size[0]
        padded = F.pad(x, ((kernel - 1) // 2, kernel // 2))
        return F.conv1d(padded, block.conv.weight, block.conv.bias)

    def pool(x: Tensor, stride: int) -> Tensor:
        # TensorFlow's SAME: what is missing is added at the end, and never the largest
        missing = max((-(-x.shape[2] // stride) - 1) * stride + 2 - x.shape[2], 0)
        return F.max_pool1d(F.pad(x, (0, missing), value=-torch.inf), 2, stride)

    with torch.inference_mode():
        expected = x[:, 15:100].transpose(1, 2)
        stem = model.stem.convolution
        expected = F.conv1d(expected, stem.weight, stem.bias, padding="same")
        expected = pool(expected + conv_block(expected, model.stem.pointwise), 1)
        lengths = [expected.shape[2]]
        for block in model.tower:
            expected = conv_block(expected, block.convolution)
            expected = pool(expected + conv_block(expected, block.pointwise), 2)
            lengths.append(expected.shape[2])
        assert lengths == [85, 43, 22, 11, 6]
        expected = expected.transpose(1, 2)
        for block in model.transformer:
            norm = block.attention_norm
            normalized = F.layer_norm(expected, (192,), norm.weight, norm.bias, 1e-5)
            expected = expected + attention(block.attention, normalized)
            norm = block.feedforward_norm
            normalized = F.layer_norm(expected, (192,), norm.weight, norm.bias, 1e-5)
            inner = F.relu(block.feedforward.expand(normalized))
            expected = expected + block.feedforward.contract(inner)
        expected = gelu(pool(conv_block(expected.transpose(1, 2), model.final), 2))
        assert expected.shape == (2, 192, 3)
        expected = F.softplus(model.heads["tracks"](expected.transpose(1, 2).flatten(1)))
        torch.testing.assert_close(model(x)[:, 0], expected)


@pytest.mark.parametrize(("stride", "expected"), [(1, [1, 3, 3, 2, 2]), (2, [1, 3, 2])])
def test_pooling_keeps_the_last_of_an_odd_number(stride: int, expected: list[int]) -> None:
    x = torch.tensor([0.0, 1, 3, 2, 2])[None, :, None]
    x[0, 4] = 2
    assert SamePool(stride)(x).flatten().tolist() == expected


def test_the_multiscale_model_computes_what_was_published() -> None:
    model: Multiscale = drawn("multiscale")
    x = sequences(1)
    with torch.inference_mode():
        summed = torch.zeros(1, 96, 110, dtype=torch.float64)
        for branch, kernel in zip(model.branches, (15, 20, 25, 30), strict=True):
            # Keras's SAME: of an even kernel one position more to the right
            padded = F.pad(x.transpose(1, 2), ((kernel - 1) // 2, kernel // 2))
            inner = F.conv1d(padded, branch.wide.weight, branch.wide.bias)
            inner = F.silu(batch_norm(inner, branch.wide_norm, 1e-3))
            inner = F.conv1d(inner, branch.pointwise.weight, branch.pointwise.bias)
            summed += F.silu(batch_norm(inner, branch.pointwise_norm, 1e-3))
        expected = summed.transpose(1, 2)
        for block in model.transformer:
            norm = block.attention_norm
            normalized = F.layer_norm(expected, (96,), norm.weight, norm.bias, 1e-3)
            expected = expected + attention(block.attention, normalized)
            norm = block.feedforward_norm
            normalized = F.layer_norm(expected, (96,), norm.weight, norm.bias, 1e-3)
            expected = expected + block.contract(F.silu(block.expand(normalized)))
        states = []
        for direction, steps in enumerate((range(110), reversed(range(110)))):
            hidden = cell = torch.zeros(1, 4, dtype=torch.float64)
            for step in steps:
                z = expected[:, step] @ model.lstm.input_weight[direction]
                z = z + hidden @ model.lstm.recurrent_weight[direction] + model.lstm.bias[direction]
                i, f, g, o = z.split(4, dim=-1)
                cell = torch.sigmoid(f) * cell + torch.sigmoid(i) * F.silu(g)
                hidden = torch.sigmoid(o) * F.silu(cell)
            states.append(hidden)
        expected = model.heads["tracks"](torch.cat(states, dim=-1))
        torch.testing.assert_close(model(x)[:, 0], expected)


def test_the_cell_with_tanh_is_that_of_torch() -> None:
    torch.manual_seed(2)
    ours = LastStates(7, 3, "tanh").double()
    ours.initialize()
    theirs = nn.LSTM(7, 3, batch_first=True, bidirectional=True).double()
    with torch.no_grad():
        for direction, suffix in enumerate(("", "_reverse")):
            getattr(theirs, f"weight_ih_l0{suffix}").copy_(ours.input_weight[direction].T)
            getattr(theirs, f"weight_hh_l0{suffix}").copy_(ours.recurrent_weight[direction].T)
            getattr(theirs, f"bias_ih_l0{suffix}").copy_(ours.bias[direction])
            getattr(theirs, f"bias_hh_l0{suffix}").zero_()
    x = torch.randn(5, 11, 7, dtype=torch.float64)
    _, (hidden, _) = theirs(x)
    expected = torch.cat([hidden[0], hidden[1]], dim=-1)
    torch.testing.assert_close(ours(x), expected)
    with torch.inference_mode():
        torch.testing.assert_close(ours(x), expected)


@pytest.mark.parametrize("readout", ["flatten", "mean", "max"])
def test_the_plain_network_computes_what_it_says(readout: str) -> None:
    model: Cnn = drawn("cnn", readout=readout)
    x = sequences(3)
    with torch.inference_mode():
        expected = x.transpose(1, 2)
        for block in model.convolutions:
            expected = F.conv1d(expected, block.conv.weight, block.conv.bias, padding="same")
            expected = F.max_pool1d(F.relu(batch_norm(expected, block.norm, 1e-3)), 2)
        assert expected.shape == (3, 120, 6)
        expected = {
            "flatten": expected.transpose(1, 2).flatten(1),
            "mean": expected.mean(2),
            "max": expected.amax(2),
        }[readout]
        for layer in model.hidden:
            expected = F.relu(batch_norm(layer.linear(expected), layer.norm, 1e-3))
        expected = F.softplus(model.heads["tracks"](expected))
        torch.testing.assert_close(model(x)[:, 0], expected)


@pytest.mark.parametrize("architecture", NAMES)
def test_predictions_are_those_of_training_but_for_rounding(architecture: str) -> None:
    # Without gradients other formulas are used on a CPU, which do not depend on the number of threads.
    model = drawn(architecture)
    with torch.inference_mode():
        found = model(sequences(3))
    torch.testing.assert_close(found, model(sequences(3)).detach())


@pytest.mark.parametrize(
    ("architecture", "settings", "message"),
    [
        ("cnn", {"target_length": 2}, "target_length 2 is more than the 1 bins"),
        ("cnn", {"link": "exp"}, "link is 'exp'; it must be one of: softplus, linear"),
        ("cnn", {"trim_left": 100, "trim_right": 10}, "leave nothing of the 110 bases"),
        ("cnn", {"kernels": [3]}, "channels has 4 widths and kernels 1"),
        ("cnn", {"pool": 4, "context_length": 100}, "leave nothing of 100 positions"),
        ("cnn", {"hidden": [0]}, "hidden is 0"),
        ("mini_enformer", {"relative_features": 20}, "relative_features is 20; it must be a multiple of 6"),
        ("mini_enformer", {"context_length": 40}, "leave 1 of 15 positions"),
        ("mini_enformer", {"tower_channels": 3}, "tower_channels is 3; it must be a list"),
        ("multiscale", {"lstm_activation": "relu"}, "must be one of: swish, tanh"),
        ("multiscale", {"frozen_transformer": 1}, "must be true or false"),
        ("multiscale", {"kernels": []}, "kernels is empty"),
        ("multiscale", {"trim_left": -1}, "trim_left is -1"),
    ],
)
def test_bad_settings_are_refused(architecture: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        registry.config_from_dict(architecture, settings)


@pytest.mark.parametrize("architecture", NAMES)
def test_settings_come_back_from_what_is_saved(architecture: str) -> None:
    config = registry.build(architecture, {"heads": {"a": 2}}).config
    assert registry.config_from_dict(architecture, config.to_dict()) == config


SMALL: dict[str, dict[str, Any]] = {
    "cnn": {"channels": [8, 8], "kernels": [5, 4], "hidden": [8]},
    "mini_enformer": {"stem_channels": 8, "tower_channels": [8, 12], "depth": 1, "relative_features": 6},
    "multiscale": {
        "kernels": [5, 6],
        "branch_channels": 8,
        "channels": 12,
        "key_size": 8,
        "link": "softplus",
    },
}


@pytest.fixture(scope="module")
def genome(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("constructs")
    bases = np.random.default_rng(3).choice(list("ACGT"), size=(2, 4400))
    write_fasta(folder / "genome.fa", {f"chr{i + 1}": "".join(row) for i, row in enumerate(bases)})
    lines = [f"chr{1 + i % 2}\t{i * 20}\t{i * 20 + 1}\t.\t{i % 7}\t+" for i in range(200)]
    (folder / "a.bed").write_text("\n".join(lines) + "\n")
    (folder / "tracks.tsv").write_text("id\tfiles\na\ta.bed\n")
    options = PrepareOptions(context_length=110, bin_size=110, target_length=1, valid=("chr2",), test=())
    prepare(folder / "genome.fa", folder / "tracks.tsv", folder / "data.h5", options)
    bases_of = "".join(bases[0])
    ref = bases_of[1000]
    alt = "ACGT"[("ACGT".index(ref) + 1) % 4]
    records = [("chr1", 1001, "snv", ref, alt), ("chr1", 1001, "insertion", ref, f"{ref}{alt}{ref}{alt}")]
    records.append(("chr1", 1001, "deletion", bases_of[1000:1005], ref))
    write_vcf(folder / "variants.vcf", records)
    return folder


@pytest.mark.parametrize("architecture", NAMES)
def test_a_model_can_be_trained_and_scores_variants(architecture: str, genome: Path, tmp_path: Path) -> None:
    config = from_dict(
        {
            "data": {"path": str(genome / "data.h5")},
            "model": {"architecture": architecture, "settings": SMALL[architecture]},
            "schedule": {"steps": 3},
            "augmentation": {"reverse_complement": False},
            "training": {"batch_size": 4, "steps_per_epoch": 3},
        }
    )
    train(config, tmp_path / "run")
    model: SequenceModel = checkpoints.load(tmp_path / "run/checkpoint")
    assert registry.architecture_of(model) == architecture
    arguments = ["score-variants", "-c", str(tmp_path / "run/checkpoint"), str(genome / "variants.vcf")]
    arguments += ["--fasta", str(genome / "genome.fa"), "-o", str(tmp_path / "scores.tsv"), "--no-rc"]
    ran = CliRunner().invoke(main, [*arguments, "--stats", "SAD", "--device", "cpu"])
    assert ran.exit_code == 0, ran.output
    rows = [line.split("\t") for line in (tmp_path / "scores.tsv").read_text().splitlines()]
    found = {row[2]: float(row[-1]) for row in rows[1:]}
    assert found.keys() == {"snv", "insertion", "deletion"}
    contig = "".join((genome / "genome.fa").read_text().split(">")[1].splitlines()[1:])
    start = 1000 - 55
    reference = contig[start : start + 110]
    snv = next(row for row in rows if row[2] == "snv")
    changed = contig[start:1000] + snv[4] + contig[1001 : start + 110]
    with torch.inference_mode():
        values = model.eval()(
            torch.stack([one_hot(torch.from_numpy(encode(s))) for s in (reference, changed)])
        )
    assert found["snv"] == pytest.approx(float(values[1, 0, 0] - values[0, 0, 0]), rel=1e-3, abs=1e-7)
    assert all(np.isfinite(score) and score for score in found.values())
