"""The compiled trunk: the same numbers, few compilations, and a clear word where there is no compiler."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from toy_models import BaseCounts, save_tiny_checkpoint, variant

from gexpr import checkpoints
from gexpr.errors import ConfigError, GexprError
from gexpr.genome.fasta import Fasta
from gexpr.genome.windows import WindowRule
from gexpr.models import registry
from gexpr.models.base import SequenceModel
from gexpr.runs.common import ModelOptions, describe_predictor, open_predictor
from gexpr.scoring import compiled
from gexpr.scoring.engine import FastaWindows, VariantScorer
from gexpr.scoring.predictor import Predictor


@pytest.fixture(scope="module")
def compiler(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Skips where PyTorch cannot compile."""
    patch = pytest.MonkeyPatch()
    # Processes that compile ahead would stay behind until the tests end.
    patch.setenv("TORCHINDUCTOR_COMPILE_THREADS", "1")
    try:
        compiled.check_compiler(torch.device("cpu"))
    except ConfigError as error:
        pytest.skip(str(error))
    finally:
        patch.undo()


def tiny(architecture: str) -> SequenceModel:
    """A model with drawn weights: 512 bp in bins of 16 bp."""
    common: dict[str, Any] = dict(
        context_length=512, target_length=24, heads={"tracks": 3}, num_downsamples=4
    )
    settings: dict[str, dict[str, Any]] = {
        "enformer": dict(channels=24, divisible_by=8, depth=1, attention_heads=2, key_size=8),
        "basenji": dict(
            stem_channels=12, tower_start=12, dilated_layers=2, dilated_channels=8, final_channels=16
        ),
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        model = registry.build(architecture, {**common, **settings[architecture]}).eval()
        for parameter in model.parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
    return model


def snvs(sequence: str, places: list[int]) -> list[Any]:
    alternates = dict(zip("ACGT", "CGTA", strict=True))
    return [
        variant(place, sequence[place], alternates[sequence[place]], row) for row, place in enumerate(places)
    ]


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> Any:
    """PyTorch traces functions but generates no code, which is quick; its counters of what it did."""
    from torch._dynamo.utils import counters

    monkeypatch.setattr(compiled, "BACKEND", "eager")
    counters.clear()
    return counters


@pytest.mark.slow
def test_compiled_scores_are_those_of_the_model(sequence: str, genome: Fasta, compiler: None) -> None:
    model = tiny("enformer")
    variants = snvs(sequence, [600, 601, 1300])
    found = {}
    for compile in (False, True):
        predictor = Predictor(model, batch_size=4, reverse_complement=False, compile=compile)
        found[compile] = VariantScorer(predictor, FastaWindows(genome)).score(variants)["logFC"]
    assert np.abs(found[False]).min() > 1e-6
    assert np.allclose(found[True], found[False], rtol=0, atol=1e-5)


@pytest.mark.parametrize("architecture", ["enformer", "basenji"])
def test_every_shape_is_compiled_once_and_as_a_whole(
    architecture: str, sequence: str, genome: Fasta, traced: Any
) -> None:
    model = tiny(architecture)
    with torch.inference_mode():
        long = torch.eye(4)[torch.randint(0, 4, (1, 1024), generator=torch.Generator().manual_seed(1))]
        pairs = torch.cat([long, long.flip(1)])[:, :512]
        trunk = compiled.Trunk(model, torch.device("cpu"), compiled=True)
        traced.clear()
        for _ in range(2):
            # Pieces of different wholes are one shape, whatever their strides.
            for x in (long[:, :512], long[:, 100:612], long[:, :512].clone(), pairs, long):
                expected = model.encode(x)
                assert (trunk.encode(x) - expected).abs().max() / expected.abs().max() < 1e-5
        assert traced["stats"]["unique_graphs"] == 3 and not traced["graph_break"]

    predictor = Predictor(model, batch_size=4, reverse_complement=False, compile=True)
    scorer = VariantScorer(predictor, FastaWindows(genome), window_rule=WindowRule(64))
    insertion = variant(900, "", "ACGTT", 4)
    scorer.score([*snvs(sequence, [600, 700, 800]), insertion])
    before = traced["stats"]["unique_graphs"]
    assert before > 3
    scorer.score([*snvs(sequence, [610, 615, 710, 820, 910, 1011, 1200]), insertion._replace(row=7)])
    assert traced["stats"]["unique_graphs"] == before and not traced["graph_break"]


def test_more_shapes_than_pytorch_allows_by_itself(traced: Any) -> None:
    function = compiled.compiled_function(lambda x: torch.exp(x) * 2)
    for length in range(1, 13):
        function(torch.full((length,), 0.5))
    assert traced["stats"]["unique_graphs"] == 12 and not traced["graph_break"]


def broken(*_: Any, **__: Any) -> Any:
    from torch._dynamo.exc import BackendCompilerFailed

    def call(*_: Any) -> None:
        raise BackendCompilerFailed(broken, RuntimeError("No working C++ compiler found\nsecond line"), None)

    return call


def test_a_machine_without_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    checkpoint = save_tiny_checkpoint(tmp_path / "model")
    monkeypatch.setattr(torch, "compile", broken)
    with pytest.raises(ConfigError) as caught:
        open_predictor(ModelOptions(str(checkpoint), device="cpu", compile=True))
    message = str(caught.value)
    assert "--compile: PyTorch" in message and "cannot compile for cpu" in message
    assert "No working C++ compiler found" in message and "second line" not in message
    assert "install a C++ compiler such as gcc" in message and "\n" not in message
    open_predictor(ModelOptions(str(checkpoint), device="cpu"))
    monkeypatch.setattr(torch, "zeros", lambda *_, **__: torch.tensor(0.0))
    with pytest.raises(ConfigError, match="install Triton"):
        compiled.check_compiler(torch.device("cuda"))


def test_what_the_compiler_refuses_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", broken)
    with pytest.raises(GexprError, match=r"torch.compile failed for shape \(2, 3\).*leave --compile out"):
        compiled.compiled_function(torch.exp)(torch.ones(2, 3))

    monkeypatch.setattr(torch, "compile", lambda function, **_: function)

    def out_of_memory(x: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        compiled.compiled_function(out_of_memory)(torch.ones(2))


def test_the_output_says_whether_the_trunk_was_compiled(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    options = ModelOptions(str(save_tiny_checkpoint(tmp_path / "model")), device="cpu")
    for compile in (False, True):
        each = options._replace(compile=compile)
        assert describe_predictor(each, open_predictor(each))["compiled"] is compile


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_tokens_are_kept_in_the_precision_of_the_weights(precision: str, tmp_path: Path) -> None:
    model = checkpoints.load(save_tiny_checkpoint(tmp_path / "model"))
    predictor = Predictor(model, batch_size=1, precision=precision)
    codes = torch.randint(0, 4, (1, 512), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    (member,) = predictor.members
    seen = {}

    def encode(piece: torch.Tensor) -> torch.Tensor:
        seen["inside"] = model.encode(member.one_hot(piece)).dtype
        seen["tokens"] = member.trunk.encode(member.one_hot(piece)).dtype
        return piece

    predictor.in_batches(encode, codes, 1)
    assert seen["tokens"] == torch.float32
    assert seen["inside"] == {"fp16": torch.float16, "bf16": torch.bfloat16}[precision]
    assert predictor.predict(codes).dtype == torch.float32


def test_a_model_without_trunk_or_weights() -> None:
    codes = torch.zeros((1, 64), dtype=torch.uint8)
    assert torch.equal(Predictor(BaseCounts(), batch_size=1).predict(codes)[..., 0], torch.full((1, 8), 4.0))
