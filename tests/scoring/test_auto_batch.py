"""``--auto-batch``: a batch that does not fit is halved, which is said and recorded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from toy_models import BaseCounts, save_tiny_checkpoint, write_fasta, write_vcf

from gexpr.errors import GexprError
from gexpr.runs.common import ModelOptions
from gexpr.runs.score_variants import ScoreOptions, score_variants
from gexpr.scoring.members import Member
from gexpr.scoring.predictor import Predictor


class Small(BaseCounts):
    """A model on a device that holds ``most`` sequences."""

    def __init__(self, most: int, error: Callable[[], BaseException]) -> None:
        super().__init__()
        self.most = most
        self.error = error
        self.seen: list[int] = []

    def forward(self, x: torch.Tensor, head: str | None = None) -> torch.Tensor:
        self.seen.append(len(x))
        if len(x) > self.most:
            raise self.error()
        return super().forward(x, head)


def shortage() -> BaseException:
    return torch.OutOfMemoryError("CUDA out of memory")


def shortage_on_cpu() -> BaseException:
    return RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory")


@pytest.mark.parametrize("error", [shortage, shortage_on_cpu])
@pytest.mark.parametrize(("batch", "most", "sizes"), [(8, 8, [8]), (8, 3, [8, 4, 2]), (6, 2, [6, 3, 1])])
def test_the_batch_is_halved_until_it_fits(batch: int, most: int, sizes: list[int], error, capsys) -> None:
    model = Small(most, error)
    predictor = Predictor(model, batch_size=batch, reverse_complement=False, auto_batch=True)
    codes = np.random.default_rng(1).integers(0, 4, (batch - 1, predictor.window_length), dtype=np.uint8)
    result = predictor.predict(codes)
    expected = Predictor(BaseCounts(), batch_size=batch, reverse_complement=False).predict(codes)
    assert torch.equal(result, expected)
    assert list(dict.fromkeys(model.seen)) == sizes and predictor.used_batch_size == sizes[-1]
    warnings = capsys.readouterr().err.splitlines()
    assert len(warnings) == len(sizes) - 1 and all("out of memory" in line for line in warnings)
    predictor.predict(codes)
    assert set(model.seen[-2:]) == {sizes[-1]}, "a size that fits is kept"


@pytest.mark.parametrize(("auto", "batch", "advice"), [(False, 4, "--auto-batch"), (True, 1, "more memory")])
def test_an_error_that_advises(auto: bool, batch: int, advice: str) -> None:
    predictor = Predictor(Small(0, shortage), batch_size=batch, auto_batch=auto)
    with pytest.raises(GexprError, match=f"out of memory.*{advice}"):
        predictor.predict(np.zeros((1, predictor.window_length), dtype=np.uint8))


def test_other_errors_are_not_taken_for_a_lack_of_memory() -> None:
    predictor = Predictor(Small(0, lambda: RuntimeError("shapes differ")), batch_size=4, auto_batch=True)
    with pytest.raises(RuntimeError, match="shapes differ"):
        predictor.predict(np.zeros((1, predictor.window_length), dtype=np.uint8))


def test_the_output_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sequence = "".join(np.random.default_rng(5).choice(list("ACGT"), 2000))
    records = [
        ("chr1", i, ".", sequence[i - 1], "ACGT"["ACGT".find(sequence[i - 1]) - 1]) for i in (900, 950)
    ]
    vcf = str(write_vcf(tmp_path / "v.vcf", records))
    fasta = str(write_fasta(tmp_path / "g.fa", {"chr1": sequence}))
    monkeypatch.setenv("GEXPR_CACHE", str(tmp_path / "cache"))
    model = ModelOptions(str(save_tiny_checkpoint(tmp_path / "tiny")), device="cpu", batch_size=4)
    score_variants(vcf, fasta, str(tmp_path / "full.h5"), ScoreOptions(model=model))

    whole = Member.predict

    def small(self: Member, inputs: torch.Tensor, *rest) -> torch.Tensor:
        if len(inputs) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return whole(self, inputs, *rest)

    monkeypatch.setattr(Member, "predict", small)
    halved = ScoreOptions(model=model._replace(auto_batch=True))
    score_variants(vcf, fasta, str(tmp_path / "half.h5"), halved)
    with h5py.File(tmp_path / "full.h5") as full, h5py.File(tmp_path / "half.h5") as half:
        assert "auto_batch_sizes" not in full.attrs and full.attrs["batch_size"] == 4
        assert half.attrs["auto_batch_sizes"] == "2" and half.attrs["batch_size"] == 4
        np.testing.assert_allclose(half["logFC"][:], full["logFC"][:], atol=1e-5)
