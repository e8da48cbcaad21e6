"""Numeric settings, transfers between host and device, and what overflows."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from toy_models import save_tiny_checkpoint, variant

from gexpr import checkpoints
from gexpr.errors import GexprError
from gexpr.genome.fasta import Fasta
from gexpr.genome.windows import WindowRule
from gexpr.models import registry
from gexpr.scoring.definitions import PRECISIONS
from gexpr.scoring.devices import Download, indices, numeric_precision, upload
from gexpr.scoring.engine import FastaWindows, VariantScorer
from gexpr.scoring.predictor import Predictor

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def settings() -> tuple[bool, ...]:
    matmul = torch.backends.cuda.matmul
    return (
        matmul.allow_tf32,
        torch.backends.cudnn.allow_tf32,
        matmul.allow_fp16_reduced_precision_reduction,
        matmul.allow_bf16_reduced_precision_reduction,
    )


@pytest.mark.parametrize("precision", PRECISIONS)
def test_settings_inside_and_after(precision: str) -> None:
    before = settings()
    with pytest.raises(KeyError), numeric_precision(precision, torch.device("cpu")):
        tf32 = precision == "tf32"
        assert settings() == (tf32, tf32, False, False)
        product = torch.ones(2, 2) @ torch.ones(2, 2)
        assert product.dtype == {"fp16": torch.float16, "bf16": torch.bfloat16}.get(precision, torch.float32)
        raise KeyError
    assert settings() == before


def test_transfers_on_a_cpu_are_none() -> None:
    cpu = torch.device("cpu")
    values = torch.arange(3.0)
    assert upload(values, cpu) is values
    assert Download(values).wait().tolist() == [0, 1, 2]
    assert indices([3, 1], cpu).dtype == torch.int64 and indices([], cpu).shape == (0,)
    assert indices([(1, 2), (3, 4)], cpu).tolist() == [[1, 2], [3, 4]]


def test_fp16_that_overflows_is_reported(tmp_path: Path, sequence: str, genome: Fasta) -> None:
    model = checkpoints.load(save_tiny_checkpoint(tmp_path / "model"))
    with torch.no_grad():
        model.stem.pointwise.conv.weight.mul_(1e6)  # type: ignore[union-attr,operator]
    variants = [variant(1000, sequence[1000], "A" if sequence[1000] != "A" else "C")]
    for engine in ("incremental", "plain"):
        scorer = VariantScorer(Predictor(model, batch_size=2), FastaWindows(genome), engine=engine)
        assert np.isfinite(scorer.score(variants)["logFC"]).all()
        scorer = VariantScorer(
            Predictor(model, batch_size=2, precision="fp16"), FastaWindows(genome), engine=engine
        )
        with pytest.raises(GexprError, match=r"not finite \(precision fp16.*use --precision fp32"):
            scorer.score(variants)


def test_what_one_precision_leaves_does_not_reach_the_next() -> None:
    """A model keeps what depends on its weights alone; in a precision that serves every predictor."""
    settings = dict(context_length=512, target_length=24, heads={"tracks": 3}, num_downsamples=4, channels=24)
    settings |= dict(divisible_by=8, depth=1, attention_heads=2, key_size=8)
    codes = torch.randint(0, 4, (1, 512), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    found = []
    for order in (["fp32"], ["bf16", "fp32"], ["fp16", "fp32"]):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(5)
            model = registry.build("enformer", settings).eval()
            torch.nn.init.normal_(model.transformer[0].attention.to_output.weight)  # type: ignore
        for precision in order:
            predicted = Predictor(model, batch_size=1, precision=precision).predict(codes)
        found.append(predicted)
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])


@pytest.mark.gpu
def test_values_survive_what_the_device_does_next() -> None:
    device = torch.device("cuda")
    values = torch.arange(2**20, device=device, dtype=torch.float32)
    download = Download(values)
    values.zero_()
    assert download.wait().tolist()[-3:] == [2**20 - 3, 2**20 - 2, 2**20 - 1]
    assert indices([5, 7], device).tolist() == [5, 7]
    on_device = torch.ones(2, device=device)
    assert upload(on_device, device) is on_device


@pytest.mark.gpu
def test_the_host_waits_for_results_alone(tmp_path: Path, sequence: str, genome: Fasta) -> None:
    """No operation between the upload of a batch and the download of its scores waits for the device."""
    model = checkpoints.load(save_tiny_checkpoint(tmp_path / "model"))
    bases = "ACGT"
    snvs = [
        variant(place, sequence[place], bases[bases.index(sequence[place]) - 1], row)
        for row, place in enumerate(range(600, 1400, 40))
    ]
    with Predictor(model, device="cuda", batch_size=4) as predictor:
        scorer = VariantScorer(predictor, FastaWindows(genome), window_rule=WindowRule(64))
        expected = scorer.score(snvs)["logFC"]
        torch.cuda.set_sync_debug_mode("warn")
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                found = scorer.score(snvs)["logFC"]
        finally:
            torch.cuda.set_sync_debug_mode("default")
    waits = [str(each.message) for each in caught if "synchroniz" in str(each.message)]
    assert not waits
    assert np.array_equal(found, expected)


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["tf32", "fp16", "bf16"])
def test_precisions_on_cuda(precision: str, tmp_path: Path, sequence: str, genome: Fasta) -> None:
    model = checkpoints.load(save_tiny_checkpoint(tmp_path / "model"))
    variants = [variant(1000, sequence[1000], "A" if sequence[1000] != "A" else "C")]
    scores = {}
    for each in ("fp32", precision):
        with Predictor(model, device="cuda", batch_size=2, precision=each) as predictor:
            scores[each] = VariantScorer(predictor, FastaWindows(genome)).score(variants)["logFC"]
    largest = np.abs(scores["fp32"]).max()
    assert largest > 0 and np.isfinite(scores[precision]).all()
    share = {"tf32": 0.05, "fp16": 0.2, "bf16": 1.5}[precision]
    assert np.abs(scores[precision] - scores["fp32"]).max() < share * largest


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_compiled_on_cuda(precision: str, tmp_path: Path, sequence: str, genome: Fasta) -> None:
    model = checkpoints.load(save_tiny_checkpoint(tmp_path / "model"))
    variants = [
        variant(1000, sequence[1000], "A" if sequence[1000] != "A" else "C"),
        variant(1100, "", "AC", 1),
    ]
    scores = {}
    for compile in (False, True):
        with Predictor(model, device="cuda", batch_size=2, precision=precision, compile=compile) as predictor:
            scores[compile] = VariantScorer(predictor, FastaWindows(genome)).score(variants)["logFC"]
    tolerance = 1e-5 if precision == "fp32" else 0.2 * np.abs(scores[False]).max()
    assert np.allclose(scores[True], scores[False], rtol=0, atol=tolerance)


def benchmark(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(BENCHMARKS / name), *arguments], capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_the_benchmark_for_cuda_runs_on_a_tiny_model(tmp_path: Path) -> None:
    out = tmp_path / "gpu.json"
    arguments = ["--device", "cpu", "--small", "--threads", "1", "--repeats", "1", "--compile", "no"]
    ran = benchmark(
        "gpu.py", *arguments, "--precisions", "fp32,bf16", "--cases", "single", "--json", f"{out}"
    )
    assert ran.returncode == 0, ran.stderr
    record = json.loads(out.read_text())
    rows = record["rows"]
    assert {(row["model"], row["precision"], row["batch_size"]) for row in rows} == {
        (model, precision, size)
        for model in ("enformer", "sparse")
        for precision in ("fp32", "bf16")
        for size in (2, 4)
    }
    for row in rows:
        assert "error" not in row, row
        assert row["operations"] > 0 and row["variants_per_second"] > 0 and row["times_two_passes"] > 0
        exact = row["precision"] == "fp32"
        assert (row["largest_error"] < 1e-6) is exact
    assert ran.stdout.count("\nenformer\t") == 4 and record["matrix_rates"]["sparse"]["bf16"] > 0


def test_the_benchmark_says_that_there_is_no_cuda_device() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one")
    ran = benchmark("gpu.py")
    assert ran.returncode == 1
    assert re.search(r"this machine has no CUDA device \(PyTorch .*nothing was measured", ran.stderr)
