"""Whole prediction runs on a tiny checkpoint."""

from __future__ import annotations

import os
from pathlib import Path

import h5py
import numpy as np
import pytest

from gexpr import checkpoints, logs
from gexpr.errors import ConfigError, InputError
from gexpr.genome.codes import encode, one_hot
from gexpr.runs.common import DtypeCast, ModelOptions
from gexpr.runs.predict import PredictOptions, predict


@pytest.fixture(autouse=True)
def loud() -> None:
    logs.set_quiet(False)


@pytest.fixture
def options(inputs) -> PredictOptions:
    return PredictOptions(model=ModelOptions(inputs.checkpoint, device="cpu", batch_size=2))


def test_predictions_are_the_models_own(inputs, options, tmp_path: Path, capsys) -> None:
    import torch

    summary = predict(inputs.bed, inputs.fasta, str(tmp_path / "a.h5"), options)
    assert (summary.regions, summary.bins) == (2, 12)
    assert "2 regions with 12 bins of 16 bp predicted" in capsys.readouterr().err
    model = checkpoints.load(inputs.checkpoint)
    with h5py.File(tmp_path / "a.h5") as file:
        assert file["predictions"].shape == (2, 6, 4)
        assert file["chrom"].asstr()[:].tolist() == ["chr1", "1"]
        for index, (start, flip) in enumerate([(500, False), (800, True)]):
            # 6 of 24 bins lie in the middle: 9 bins and 4 cropped ones before them.
            window_start = start - (9 + 4) * 16
            window = encode(inputs.sequence[window_start : window_start + 512])
            with torch.inference_mode():
                forward = model(torch.from_numpy(one_hot(window))[None])[0]
                reverse = model(torch.from_numpy(one_hot(window)[::-1, ::-1].copy())[None])[0]
            mean = (forward + reverse.flip(0)[:, [3, 2, 1, 0]]) / 2
            expected = mean[9:15].numpy()
            assert np.allclose(file["predictions"][index], expected[::-1] if flip else expected, atol=1e-5)


def test_tsv_sums_and_npz(inputs, options, tmp_path: Path) -> None:
    predict(inputs.bed, inputs.fasta, str(tmp_path / "a.h5"), options)
    predict(inputs.bed, inputs.fasta, str(tmp_path / "a.tsv"), options)
    one = tmp_path / "one.bed"
    one.write_text("chr1\t500\t596\n")
    predict(str(one), inputs.fasta, str(tmp_path / "a.npz"), options)
    rows = [line.split("\t") for line in (tmp_path / "a.tsv").read_text().splitlines()]
    with h5py.File(tmp_path / "a.h5") as file, np.load(tmp_path / "a.npz") as archive:
        values = file["predictions"][:]
        assert np.allclose(np.float64([row[5:] for row in rows[1:]]), values.sum(axis=1), rtol=1e-6)
        assert np.array_equal(archive["predictions"], values[0])
    assert rows[2][:5] == ["1", "800", "896", "b", "-"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("chr9\t1\t5", "line 2: the FASTA has no contig 'chr9'"),
        ("chr1\t2990\t3001", "line 2: .*past the end"),
    ],
)
def test_regions_off_the_genome(line: str, message: str, inputs, options, tmp_path: Path) -> None:
    bed = tmp_path / "bad.bed"
    bed.write_text(f"chr1\t1\t5\n{line}\n")
    with pytest.raises(InputError, match=message):
        predict(str(bed), inputs.fasta, str(tmp_path / "a.h5"), options)
    assert os.listdir(tmp_path) == ["bad.bed"]


def test_npz_is_refused_for_two_regions_before_the_model_is_loaded(inputs, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="one region"):
        predict(
            inputs.bed, inputs.fasta, str(tmp_path / "a.npz"), PredictOptions(model=ModelOptions("missing"))
        )


def test_float16_overflow_is_told_once(capsys) -> None:
    cast = DtypeCast("float16")
    assert np.isinf(cast(np.float32([1e6]))).all()
    cast(np.float32([1e6]))
    assert capsys.readouterr().err.count("warning:") == 1
    with pytest.raises(ConfigError):
        DtypeCast("float8")
