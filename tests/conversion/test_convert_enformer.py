"""Enformer's weights from enformer-pytorch and from Sonnet, against numbers of an independent program."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save_file
from tf_writer import write_bundle

from gexpr import checkpoints
from gexpr.cli.convert import command
from gexpr.conversion import enformer
from gexpr.conversion.adapter import Source
from gexpr.conversion.convert import convert
from gexpr.errors import CheckpointError, ConfigError
from gexpr.models.base import SequenceModel, on_meta_device, parameter_count
from gexpr.models.enformer import Enformer, EnformerConfig
from gexpr.models.sparse_enformer import SparseEnformer

CONTEXT = 384
WIDTHS = (24, 24, 36, 36, 48)
"""Stem and tower of enformer-pytorch's from_hparams(dim=48, num_downsamples=5, dim_divisible_by=12)."""

TARGETS = """index\tgenome\tidentifier\tfile\tclip\tscale\tsum_stat\tdescription
0\t0\tENC0\ta\t32\t2\tmean\tDNASE:brain
1\t0\tENC1\tb\t384\t1\tsum\tCAGE:liver
2\t0\tENC2\tc\t384\t1\tsum\tCHIP:CTCF:blood
"""


def hashed(count: int, index: int) -> torch.Tensor:
    """Reproducible numbers in [-1, 1), the same on every machine."""
    i = torch.arange(count, dtype=torch.int64)
    z = (i * 2654435761 + (index + 1) * 40503 * 65537 + 12345) % 2**32
    z = (z * (z % 65521) + i * 97) % 2**32
    return z.double() / 2**32 * 2 - 1


def names_and_shapes() -> dict[str, tuple[int, ...]]:
    """The tensors of enformer-pytorch's small model, in the order of its state dict."""
    found: dict[str, tuple[int, ...]] = {}

    def norm(name: str, channels: int) -> None:
        for each in ("weight", "bias", "running_mean", "running_var"):
            found[f"{name}.{each}"] = (channels,)
        found[f"{name}.num_batches_tracked"] = ()

    def weights(name: str, *shape: int) -> None:
        found[f"{name}.weight"], found[f"{name}.bias"] = shape, shape[:1]

    def down(name: str, channels: int) -> None:
        norm(f"{name}.1.fn.0", channels)
        weights(f"{name}.1.fn.2", channels, channels, 1)
        found[f"{name}.2.to_attn_logits.weight"] = (channels, channels, 1, 1)

    weights("stem.0", WIDTHS[0], 4, 15)
    down("stem", WIDTHS[0])
    for n in range(4):
        norm(f"conv_tower.{n}.0.0", WIDTHS[n])
        weights(f"conv_tower.{n}.0.2", WIDTHS[n + 1], WIDTHS[n], 5)
        down(f"conv_tower.{n}", WIDTHS[n + 1])
    for b in range(2):
        mha, mlp = f"transformer.{b}.0.fn", f"transformer.{b}.1.fn"
        weights(f"{mha}.0", 48)
        for each in ("content", "pos"):
            found[f"{mha}.1.rel_{each}_bias"] = (1, 4, 1, 8)
        for each, rows in (("q", 32), ("k", 32), ("v", 48)):
            found[f"{mha}.1.to_{each}.weight"] = (rows, 48)
        weights(f"{mha}.1.to_out", 48, 48)
        found[f"{mha}.1.to_rel_k.weight"] = (32, 12)
        weights(f"{mlp}.0", 48)
        weights(f"{mlp}.1", 96, 48)
        weights(f"{mlp}.4", 48, 96)
    norm("final_pointwise.1.0", 48)
    weights("final_pointwise.1.2", 96, 48, 1)
    weights("_heads.human.0", 3, 96)
    weights("_heads.mouse.0", 2, 96)
    return found


def state_dict() -> dict[str, torch.Tensor]:
    """The small model filled as its fixture is (float64)."""
    state, index = {}, 0
    for name, shape in names_and_shapes().items():
        if name.endswith("num_batches_tracked"):
            state[name] = torch.tensor(7)
            continue
        value = hashed(math.prod(shape), index).view(shape)
        index += 1
        if name.endswith("running_var"):
            value = 1 + 0.5 * value
        elif name.endswith("running_mean"):
            value = 0.1 * value
        elif len(shape) == 1 and name.endswith("weight"):
            value = 1 + 0.1 * value
        elif len(shape) == 1:
            value = 0.1 * value
        elif name.endswith("_bias"):
            value = 0.5 * value
        else:
            value = 2 * value / math.sqrt(max(1, value[0].numel()))
        state[name] = value
    return state


def bases() -> torch.Tensor:
    codes = ((hashed(CONTEXT, 999) + 1) / 2 * 4).long().clamp(0, 3)
    x = torch.nn.functional.one_hot(codes, 4).float()[None]
    x[:, 5] = 0
    return x


def outputs(model: SequenceModel) -> tuple[list[float], float]:
    with torch.inference_mode():
        human, mouse = model(bases(), "human"), model(bases(), "mouse")
    return human[0, 0].tolist(), mouse.sum().item()


GEOMETRY = dict(context_length=CONTEXT, target_length=4)
PUBLISHED = {
    "positions": ([1.1812895454, 1.1229029598, 0.0988668939], 7.7701373658),
    "features": ([1.1460323702, 1.1697401662, 0.1010312790], 7.6923412262),
}
"""Outputs of enformer-pytorch 0.8.11 with these tensors, by what the gamma features are divided by."""


def sonnet(state: dict[str, torch.Tensor]) -> dict[str, np.ndarray | bytes]:
    """The same tensors as DeepMind's checkpoint has them."""
    config = EnformerConfig.from_dict(enformer.pytorch_settings(source_of(state), **GEOMETRY))
    theirs = {place.target: place.source for place in enformer.pytorch_places(config)}
    found: dict[str, np.ndarray | bytes] = {"_CHECKPOINTABLE_OBJECT_GRAPH": b"graph"}
    for target, name, _ in enformer.sonnet_places(config):
        value = state[theirs[target]].float().numpy()
        if name.endswith("/w" + enformer.VARIABLE):
            value = np.ascontiguousarray(value.reshape(value.shape[:2]).T if "pool" in target else value.T)
        elif "_norm." in target or "norm" not in target:
            pass
        else:
            value = value.reshape(1, 1, -1)
        found[name] = value
        if name.endswith("average" + enformer.VARIABLE):
            for each in ("_hidden", "_counter"):
                found[name.replace("average", each)] = np.zeros(1, dtype=np.float32)
    return found


def source_of(state: dict[str, torch.Tensor]) -> Source:
    return Source("state", {n: tuple(v.shape) for n, v in state.items()}, lambda name: state[name].numpy())


def as_safetensors(folder: Path) -> Path:
    save_file({name: value.contiguous() for name, value in state_dict().items()}, folder / "w.safetensors")
    return folder / "w.safetensors"


def as_pickle(folder: Path) -> Path:
    torch.save({"state_dict": state_dict()}, folder / "w.pt")
    return folder / "w.pt"


def as_hub_folder(folder: Path) -> Path:
    """With every module under its second name too, as enformer-pytorch stores it."""
    state = state_dict()
    numbers = {name: number for number, name in enformer.ALIASES.items()}
    for name, value in list(state.items()):
        first, _, rest = name.partition(".")
        if first in numbers:
            state[f"_trunk.{numbers[first]}.{rest}"] = value
    torch.save(state, folder / "pytorch_model.bin")
    (folder / "config.json").write_text(json.dumps({"target_length": 4, "dim": 48}))
    return folder


def as_aliases_alone(folder: Path) -> Path:
    state = torch.load(as_hub_folder(folder) / "pytorch_model.bin", weights_only=True)
    kept = {n: v for n, v in state.items() if n.partition(".")[0] not in enformer.ALIASES.values()}
    assert len(kept) < len(state)
    torch.save(kept, folder / "kept.bin")
    return folder / "kept.bin"


@pytest.mark.parametrize("write", [as_safetensors, as_pickle, as_hub_folder, as_aliases_alone])
@pytest.mark.parametrize("normalization", PUBLISHED)
def test_enformer_pytorch_gives_its_own_numbers(
    write: Callable[[Path], Path], normalization: str, tmp_path: Path
) -> None:
    geometry = dict(GEOMETRY)
    if write is as_hub_folder:
        del geometry["target_length"]
    source = write(tmp_path)
    done = convert(
        "enformer-pytorch", source, tmp_path / "out", gamma_normalization=normalization, **geometry
    )
    model = checkpoints.load(done.folder)
    human, mouse = outputs(model)
    expected = PUBLISHED[normalization]
    assert human == pytest.approx(expected[0], abs=2e-6) and mouse == pytest.approx(expected[1], abs=2e-5)
    assert done.parameters == sum(p.numel() for p in model.parameters()) and not done.dropped
    info = checkpoints.describe(done.folder)
    assert info.settings["gamma_normalization"] == normalization
    assert [track.id for track in info.tracks] == ["human_0", "human_1", "human_2", "mouse_0", "mouse_1"]


@pytest.mark.parametrize("compress", [False, True])
def test_sonnet_gives_the_same_numbers(compress: bool, tmp_path: Path) -> None:
    write_bundle(tmp_path / "enformer-1", sonnet(state_dict()), compress=compress)
    done = convert("enformer-sonnet", tmp_path / "enformer-1.index", tmp_path / "out", **GEOMETRY)
    human, mouse = outputs(checkpoints.load(done.folder))
    assert human == pytest.approx(PUBLISHED["positions"][0], abs=2e-6)
    assert mouse == pytest.approx(PUBLISHED["positions"][1], abs=2e-5)
    # two sums behind both averages of each of the ten normalizations, and the graph
    assert len(done.dropped) == 10 * 2 * 2 + 1 and len(set(done.dropped.values())) == 2
    card = (done.folder / "README.md").read_text()
    assert "41 tensors of the source were left out" in card
    assert "License of the weights: not stated for the weights by enformer/README.md" in card


def test_sizes_are_read_from_shapes() -> None:
    settings = enformer.pytorch_settings(source_of(state_dict()))
    expected = dict(
        context_length=1536 * 32,
        target_length=896,
        heads={"human": 3, "mouse": 2},
        channels=48,
        stem_channels=24,
        stem_kernel=15,
        tower_channels=[24, 36, 36, 48],
        tower_kernel=5,
        num_downsamples=5,
        depth=2,
        attention_heads=4,
        key_size=8,
        value_size=12,
        relative_features=12,
        feedforward_factor=2,
        final_channels=96,
    )
    assert settings == expected
    other = sonnet(state_dict())
    bundle = Source("x", {n: getattr(v, "shape", ()) for n, v in other.items()}, lambda name: other[name])  # type: ignore
    assert enformer.sonnet_settings(bundle) == expected


def test_the_published_list_of_names_is_that_of_the_table(reference_data: Path) -> None:
    """Names and shapes of enformer-pytorch at full size, as it lists them."""
    listed = {}
    for line in (reference_data / "design" / "enformer-pytorch-keys.txt").read_text().splitlines():
        name, _, shape = line.partition("\t")
        listed[name] = tuple(int(each) for each in shape.strip("()").replace(" ", "").split(",") if each)
    source = Source("list", listed, lambda name: np.zeros(listed[name]))
    config = EnformerConfig.from_dict(enformer.pytorch_settings(source))
    assert config == EnformerConfig(
        stem_channels=768,
        tower_channels=(768, 896, 1024, 1152, 1280, 1536),
        value_size=192,
        relative_features=192,
        final_channels=3072,
    )
    assert {place.source for place in enformer.pytorch_places(config)} == set(listed)


VARIABLE = "/.ATTRIBUTES/VARIABLE_VALUE"


def published_variables() -> dict[str, tuple[int, ...]]:
    """The variables of DeepMind's checkpoint and their shapes, written out from its object graph."""
    found: dict[str, tuple[int, ...]] = {}
    trunk = "module/_trunk/_layers"

    def conv(path: str, width: int, inputs: int, outputs: int) -> None:
        found[f"{path}/w"], found[f"{path}/b"] = (width, inputs, outputs), (outputs,)

    def linear(path: str, inputs: int, outputs: int) -> None:
        found[f"{path}/w"], found[f"{path}/b"] = (inputs, outputs), (outputs,)

    def batch_norm(path: str, channels: int) -> None:
        for name in ("scale", "offset"):
            found[f"{path}/{name}"] = (1, 1, channels)
        for moving in ("moving_mean", "moving_variance"):
            found[f"{path}/{moving}/average"] = found[f"{path}/{moving}/_hidden"] = (1, 1, channels)
            found[f"{path}/{moving}/_counter"] = ()

    def pointwise_and_pool(path: str, channels: int) -> None:
        batch_norm(f"{path}/1/_module/_layers/0", channels)
        conv(f"{path}/1/_module/_layers/2", 1, channels, channels)
        found[f"{path}/2/_logit_linear/w"] = (channels, channels)

    conv(f"{trunk}/0/_layers/0", 15, 4, 768)
    pointwise_and_pool(f"{trunk}/0/_layers", 768)
    widths = (768, 768, 896, 1024, 1152, 1280, 1536)
    for n in range(6):
        layers = f"{trunk}/1/_layers/{n}/_layers"
        batch_norm(f"{layers}/0/_layers/0", widths[n])
        conv(f"{layers}/0/_layers/2", 5, widths[n], widths[n + 1])
        pointwise_and_pool(layers, widths[n + 1])
    for b in range(11):
        mha = f"{trunk}/2/_layers/{b}/_layers/0/_module/_layers"
        mlp = f"{trunk}/2/_layers/{b}/_layers/1/_module/_layers"
        for norm in (f"{mha}/0", f"{mlp}/0"):
            found[f"{norm}/scale"] = found[f"{norm}/offset"] = (1536,)
        found[f"{mha}/1/_q_layer/w"] = found[f"{mha}/1/_k_layer/w"] = (1536, 512)
        found[f"{mha}/1/_v_layer/w"] = (1536, 1536)
        found[f"{mha}/1/_r_k_layer/w"] = (192, 512)
        found[f"{mha}/1/_r_w_bias"] = found[f"{mha}/1/_r_r_bias"] = (1, 8, 1, 64)
        linear(f"{mha}/1/_embedding_layer", 1536, 1536)
        linear(f"{mlp}/1", 1536, 3072)
        linear(f"{mlp}/4", 3072, 1536)
    batch_norm(f"{trunk}/4/_layers/0/_layers/0", 1536)
    conv(f"{trunk}/4/_layers/0/_layers/2", 1, 1536, 3072)
    linear("module/_heads/human/_layers/0", 3072, 5313)
    linear("module/_heads/mouse/_layers/0", 3072, 1643)
    return {f"{name}{VARIABLE}": shape for name, shape in found.items()}


def test_the_published_variables_of_sonnet_are_those_of_the_table() -> None:
    variables = published_variables()
    listed = {"_CHECKPOINTABLE_OBJECT_GRAPH": (), **variables}
    # No numbers: shapes alone, of arrays that take no memory.
    source = Source("list", listed, lambda name: np.broadcast_to(np.float32(0), listed[name]))
    config = EnformerConfig.from_dict(enformer.sonnet_settings(source))
    assert config == EnformerConfig(
        stem_channels=768,
        tower_channels=(768, 896, 1024, 1152, 1280, 1536),
        value_size=192,
        relative_features=192,
        final_channels=3072,
    )
    places = list(enformer.sonnet_places(config))
    taken = [place.source for place in places]
    dropped = {
        name for name in listed if any(re.fullmatch(each.pattern, name) for each in enformer.SONNET_DROPPED)
    }
    assert len(set(taken)) == len(taken) and not dropped & set(taken)
    assert set(taken) | dropped == set(listed)
    # The graph, and the sums behind the mean and the variance of each of 14 normalizations.
    assert len(dropped) == 1 + 14 * 2 * 2

    def counted(ending: str) -> int:
        return sum(name.endswith(ending + VARIABLE) for name in taken)

    assert (counted("/average"), counted("/_hidden"), counted("/_counter")) == (28, 0, 0)
    # Weights: 15 convolutions, 7 poolings, 7 linear layers in each of 11 layers, 2 heads. Of those, four in a
    # layer (query, key, value, relative key) and the poolings have no bias.
    assert counted("/w") == 15 + 7 + 11 * 7 + 2 and counted("/b") == 15 + 11 * 3 + 2
    assert counted("/scale") == counted("/offset") == 14 + 11 * 2
    assert counted("/_r_w_bias") == counted("/_r_r_bias") == 11

    model = on_meta_device(Enformer, config)
    wanted = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    for place in places:
        value = source[place.source]
        value = value if place.change is None else place.change(value)
        assert value.shape == wanted.pop(place.target), place.source
    assert all(name.endswith("num_batches_tracked") for name in wanted) and len(wanted) == 14
    assert parameter_count(model) == 251_221_292


def test_tracks_are_named_by_tables(tmp_path: Path) -> None:
    table = tmp_path / "targets_human.txt"
    table.write_text(TARGETS)
    source = as_safetensors(tmp_path)
    done = convert("enformer-pytorch", source, tmp_path / "out", targets={None: f"{table}"}, **GEOMETRY)
    tracks = checkpoints.describe(done.folder).tracks
    assert [track.id for track in tracks] == ["ENC0", "ENC1", "ENC2", "mouse_0", "mouse_1"]
    assert (tracks[2].assay, tracks[2].cell_type, tracks[2].transform) == ("CHIP", "CTCF:blood", "count")
    assert [track.strand_pair for track in tracks] == [0, 1, 2, 3, 4]
    with pytest.raises(ConfigError, match=r"targets_human.txt: 3 tracks, the head mouse has 2"):
        convert("enformer-pytorch", source, tmp_path / "o", targets={"mouse": f"{table}"}, **GEOMETRY)
    with pytest.raises(ConfigError, match="no head 'rat'; it has: human, mouse"):
        convert("enformer-pytorch", source, tmp_path / "o", targets={"rat": f"{table}"}, **GEOMETRY)


def test_a_sparse_model_starts_from_dense_weights(tmp_path: Path) -> None:
    source = as_safetensors(tmp_path)
    dense = checkpoints.load(convert("enformer-pytorch", source, tmp_path / "dense", **GEOMETRY).folder)
    everything = dict(block_size=4, random_blocks=1)
    done = convert("enformer-pytorch", source, tmp_path / "sparse", sparse=everything, **GEOMETRY)
    sparse = checkpoints.load(done.folder)
    assert isinstance(sparse, SparseEnformer)
    for name, value in dense.state_dict().items():
        assert torch.equal(value, sparse.state_dict()[name]), name
    # three blocks of four bins: all pairs attend, so that nothing is lost
    assert outputs(sparse)[0] == pytest.approx(outputs(dense)[0], abs=1e-6)
    assert "have to be trained" in (done.folder / "README.md").read_text()


def test_a_checkpoint_of_gexpr_is_made_sparse_with_its_own_tracks(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text(TARGETS)
    tables = {"human": f"{tmp_path / 't.txt'}"}
    source = as_safetensors(tmp_path)
    dense = convert("enformer-pytorch", source, tmp_path / "dense", targets=tables, **GEOMETRY).folder
    sparse = convert("gexpr", dense, tmp_path / "sparse", sparse=dict(block_size=4, random_blocks=1)).folder
    ours, theirs = checkpoints.load(sparse), checkpoints.load(dense)
    assert isinstance(ours, SparseEnformer) and ours.tracks == theirs.tracks
    assert outputs(ours)[0] == pytest.approx(outputs(theirs)[0], abs=1e-6)
    with pytest.raises(ConfigError, match="is a sparse_enformer; only the dense attention"):
        convert("gexpr", sparse, tmp_path / "again", sparse={})
    with pytest.raises(ConfigError, match="give --attention bigbird"):
        convert("gexpr", dense, tmp_path / "again")


def test_global_tokens_are_drawn_as_training_begins_with_them(tmp_path: Path) -> None:
    source = as_safetensors(tmp_path)
    pattern = dict(block_size=4, random_blocks=1, global_tokens=2, seed=5)
    first = convert("enformer-pytorch", source, tmp_path / "a", sparse=pattern, **GEOMETRY).folder
    second = convert("enformer-pytorch", source, tmp_path / "b", sparse=pattern, **GEOMETRY).folder
    drawn = checkpoints.load(first).state_dict()["tokens"]
    assert torch.equal(drawn, checkpoints.load(second).state_dict()["tokens"])
    assert drawn.shape == (2, 48) and 0.05 < float(drawn.std()) < 0.3


def test_sources_that_do_not_fit(tmp_path: Path) -> None:
    def refused(state: dict[str, torch.Tensor], message: str) -> None:
        torch.save(state, tmp_path / "w.pt")
        with pytest.raises(CheckpointError, match=message):
            convert("enformer-pytorch", tmp_path / "w.pt", tmp_path / "out", **GEOMETRY)
        assert not (tmp_path / "out").exists()

    state = state_dict()
    refused({**state, "extra.weight": torch.zeros(2)}, "1 tensors have no place in the model: extra.weight")
    missing = {name: value for name, value in state.items() if name != "final_pointwise.1.2.bias"}
    refused(missing, "has no tensor final_pointwise.1.2.bias; is it a model of another kind")
    refused({**state, "stem.0.bias": torch.zeros(5)}, r"stem.0.bias has shape \(5,\), which gives \(5,\) for")
    refused({**state, "stem.0.bias": torch.full((24,), torch.nan)}, "stem.0.bias holds numbers that are not")
    refused(
        {**state, "_trunk.1.0.bias": torch.zeros(24)}, "_trunk.1.0.bias and stem.0.bias should be the same"
    )
    refused({"a": torch.zeros(1)}, "has no tensor")
    refused({**state, "stem.0.weight": torch.zeros(24)}, r"stem.0.weight has shape \(24,\); it should have 3")
    bias = "transformer.{}.0.fn.1.rel_content_bias"
    refused(
        {**state, bias.format(0): torch.zeros(1, 0, 1, 8)}, r"shape \(1, 0, 1, 8\); it should have 4 axes"
    )
    refused(
        {**state, bias.format(1): torch.zeros(4)}, r"\(4,\), which cannot be that of transformer.1.attention"
    )
    refused({**state, "stem.0.bias": torch.zeros(24) * 1j}, "stem.0.bias holds complex64, not real numbers")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(CheckpointError, match="is not a table of tensors by name"):
        convert("enformer-pytorch", tmp_path / "list.pt", tmp_path / "out")
    with pytest.raises(CheckpointError, match=r"nowhere.pt: no state dict"):
        convert("enformer-pytorch", tmp_path / "nowhere.pt", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match=r"holds none of model.safetensors, pytorch_model.bin"):
        convert("enformer-pytorch", tmp_path / "empty", tmp_path / "out")


class _Evil:
    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (Path("gexpr-was-here"),))


def test_nothing_of_a_pickle_is_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"a": _Evil()}, "w.pt")
    with pytest.raises(CheckpointError, match=r"w.pt: no state dict of PyTorch"):
        convert("enformer-pytorch", "w.pt", "out")
    assert not Path("gexpr-was-here").exists()


def test_the_command(tmp_path: Path) -> None:
    source = as_safetensors(tmp_path)
    (tmp_path / "t.txt").write_text(TARGETS)
    arguments = [
        "enformer-pytorch",
        f"{source}",
        "-o",
        f"{tmp_path / 'out'}",
        "--context-length",
        f"{CONTEXT}",
    ]
    arguments += ["--target-length", "4", "--targets", f"human={tmp_path / 't.txt'}"]
    ran = CliRunner().invoke(command, arguments)
    assert ran.exit_code == 0, ran.output
    assert "parameters written to" in ran.stderr
    card = (tmp_path / "out" / "README.md").read_text()
    assert "License of the weights: CC-BY-4.0 for EleutherAI/enformer-official-rough" in card
    sparse = [*arguments, "--attention", "bigbird", "--block-size", "4", "--random-blocks", "0"]
    ran = CliRunner().invoke(command, [*sparse, "--no-global-blocks"])
    assert ran.exit_code == 0, ran.output
    settings = checkpoints.describe(tmp_path / "out").settings
    assert (settings["block_size"], settings["random_blocks"], settings["global_blocks"]) == (4, 0, False)
    ran = CliRunner().invoke(command, [*arguments, "--block-size", "4"])
    assert ran.exit_code == 2 and "--block-size needs --attention bigbird" in ran.stderr
