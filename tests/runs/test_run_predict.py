"""Whole prediction runs on a tiny checkpoint."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import h5py
import numpy as np
import pytest

from gexpr import checkpoints, logs
from gexpr.errors import ConfigError, GexprError, InputError
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


@pytest.mark.parametrize("rc", [False, True])
def test_regions_of_several_lengths_and_strands(rc: bool, inputs, options, tmp_path: Path) -> None:
    """Against windows worked out by hand: short, tiled, at both ends of the contig, on both strands."""
    import torch

    regions = [
        (100, 133, "+"),
        (1000, 1700, "-"),  # 44 bins in two windows
        (0, 20, "-"),
        (2950, 3000, "."),
        (1500, 1501, "-"),
    ]
    bed = tmp_path / "r.bed"
    bed.write_text("".join(f"chr1\t{a}\t{b}\tr{a}\t0\t{s}\n" for a, b, s in regions))
    options = dataclasses.replace(options, model=options.model._replace(reverse_complement=rc))
    predict(str(bed), inputs.fasta, str(tmp_path / "a.h5"), options)
    predict(str(bed), inputs.fasta, str(tmp_path / "a.tsv"), options)
    model = checkpoints.load(inputs.checkpoint)
    padded = "N" * 600 + inputs.sequence + "N" * 600
    sums = [line.split("\t") for line in (tmp_path / "a.tsv").read_text().splitlines()[1:]]
    with h5py.File(tmp_path / "a.h5") as file:
        offsets = file["offsets"][:]
        assert file.attrs["layout"] == "bins of all regions, tracks"
        assert np.diff(offsets.astype(int)).tolist() == [3, 44, 2, 4, 1]
        for index, (start, end, strand) in enumerate(regions):
            bins = -(-(end - start) // 16)
            first = start - (16 * bins - (end - start)) // 2
            assert (file["bin_start"][index], file["bin_end"][index]) == (first, first + 16 * bins)
            pieces = []
            for low, high in [(0, bins)] if bins <= 24 else [(0, bins // 2), (bins // 2, bins)]:
                before = (24 - (high - low)) // 2
                window_start = first + 16 * (low - before - 4)
                window = one_hot(encode(padded[600 + window_start : 600 + window_start + 512]))
                with torch.inference_mode():
                    forward = model(torch.from_numpy(window)[None])[0]
                    turned = model(torch.from_numpy(window[::-1, ::-1].copy())[None])[0]
                reverse = turned.flip(0)[:, [3, 2, 1, 0]]
                shown = (forward + reverse) / 2 if rc else (reverse if strand == "-" else forward)
                pieces.append(shown[before : before + high - low].numpy())
            expected = np.concatenate(pieces)[:: -1 if strand == "-" else 1]
            found = file["predictions"][offsets[index] : offsets[index + 1]]
            assert np.allclose(found, expected, atol=1e-5), regions[index]
            assert np.allclose(np.float64(sums[index][5:]), expected.sum(axis=0), rtol=1e-4)


def test_predictions_that_are_not_finite_stop_the_run(inputs, options, tmp_path: Path, monkeypatch) -> None:
    values = [np.ones((6, 4), np.float32), np.full((6, 4), np.nan, np.float32)]
    monkeypatch.setattr("gexpr.runs.predict.predict_regions", lambda *_: iter(values))
    with pytest.raises(GexprError, match="1:800-896: a prediction is not finite"):
        predict(inputs.bed, inputs.fasta, str(tmp_path / "a.h5"), options)
    assert os.listdir(tmp_path) == ["a.h5.run"]  # planned, so that the same command goes on


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
