"""What a table of tracks means for scores: squashed tracks of a converted model, on both strands."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from keras_writer import BORZOI_PARAMS, drawn_borzoi, write_borzoi, write_params
from numpy.typing import NDArray
from toy_models import write_fasta, write_vcf

from gexpr import checkpoints
from gexpr.cli.main import main
from gexpr.datasets.basenji import TargetRow, transform_of
from gexpr.scoring.transforms import parse_squash, unsquash

Array = NDArray[np.float64]

LENGTH = 256
TARGETS = (
    "\tidentifier\tfile\tclip\tclip_soft\tscale\tsum_stat\tstrand_pair\tdescription\n"
    "0\tENC0+\ta\t768\t0.9\t0.3\tsum_sqrt\t2\tRNA:liver\n"
    "1\tENC1\tb\t768\t0.3\t2\tsum_sqrt\t1\tDNASE:liver\n"
    "2\tENC0-\tc\t768\t0.87\t0.5\tsum_sqrt\t0\tRNA:liver\n"
    "3\tENC3\td\t768\t0.7\t2\tsum\t3\tCHIP:CTCF:liver\n"
    "4\tENC4\te\t384\t\t2\tsum\t4\tCAGE:liver\n"
)
CLIPS, SCALES, PAIRS = (0.9, 0.3, 0.87, 0.7), (0.3, 2, 0.5, 2), [2, 1, 0, 3, 4]


def squashed(coverage: Array, clip: float, scale: float, squash: str, sum_stat: str) -> Array:
    """What is predicted of a bin's summed coverage, as the programs that made the data computed it."""
    if squash == "power":
        # Borzoi's publication: the power 3/4, the soft clip, then the scale.
        value = coverage**0.75 if sum_stat == "sum_sqrt" else coverage
        return scale * np.where(value > clip, clip + np.sqrt(np.maximum(value - clip, 0)), value)
    # Later: the scale, the square root, then the soft clip.
    value = scale * coverage
    value = np.sqrt(1 + value) - 1 if sum_stat == "sum_sqrt" else value
    return np.where(value > clip, clip - 1 + np.sqrt(np.maximum(value - clip + 1, 0)), value)


def natural(values: Array, squash: str) -> Array:
    """(bins, 5) predictions to counts, written out again, from the last step to the first."""
    found = values.copy()
    for track, (clip, scale) in enumerate(zip(CLIPS, SCALES, strict=True)):
        x = values[:, track]
        if squash == "power":
            x = x / scale
            x = np.where(x > clip, (x - clip) ** 2 + clip, x)
            found[:, track] = x ** (4 / 3) if track < 3 else x
        else:
            x = np.where(x > clip, (x - clip + 1) ** 2 + clip - 1, x)
            found[:, track] = (x + 1) ** 2 - 1 if track < 3 else x
    return found


@pytest.mark.parametrize("squash", ["power", "shifted"])
@pytest.mark.parametrize("sum_stat", ["sum_sqrt", "sum"])
def test_squashing_is_undone_in_the_opposite_order(squash: str, sum_stat: str) -> None:
    coverage = np.array([0, 0.5, 3, 200, 5_000, 300_000.0])
    row = TargetRow(0, "A", "f", 768, 384, 0.3, sum_stat, 0, "RNA:x")
    values = torch.from_numpy(squashed(coverage, 384, 0.3, squash, sum_stat))
    found = unsquash(values, parse_squash(transform_of(row, squash)), row.scale).numpy()
    # The later form keeps the scale, which is part of the unit of a count.
    assert found == pytest.approx(coverage if squash == "power" else 0.3 * coverage, rel=1e-9)


@pytest.mark.parametrize("squash", ["power", "shifted"])
def test_scores_are_of_undone_tracks_on_both_strands(squash: str, tmp_path: Path) -> None:
    torch.manual_seed(8)
    write_borzoi(tmp_path / "model.h5", drawn_borzoi({"human": 5}))
    (tmp_path / "targets.txt").write_text(TARGETS)
    letters = "".join("ACGT"[i] for i in np.random.default_rng(2).integers(0, 4, 600))
    write_fasta(tmp_path / "g.fa", {"chr1": letters})
    places = [250, 300, 331]
    alleles = ["ACGT"[("ACGT".index(letters[place]) + 1) % 4] for place in places]
    rows = [("chr1", p + 1, f"v{p}", letters[p], alt) for p, alt in zip(places, alleles, strict=True)]
    write_vcf(tmp_path / "v.vcf", rows)

    def ran(*arguments: str) -> None:
        result = CliRunner().invoke(main, arguments)
        assert result.exit_code == 0, result.output

    def path(name: str) -> str:
        return str(tmp_path / name)

    params = str(write_params(BORZOI_PARAMS, tmp_path))
    arguments = ["--params", params, "--targets", path("targets.txt"), "--squash", squash, "-o", path("m")]
    ran("convert", "baskerville", path("model.h5"), *arguments)
    tracks = checkpoints.describe(tmp_path / "m").tracks
    assert [track.strand_pair for track in tracks] == PAIRS
    assert "".join(track.strand for track in tracks) == "+.-.."
    form = "power,exponent=0.75" if squash == "power" else "shifted_power,exponent=0.5"
    assert tracks[0].transform == f"squashed:{form},clip_soft=0.9" and tracks[4].transform == "count"

    score = ["score-variants", "-c", path("m"), "-f", path("g.fa"), "--device", "cpu", "--stats", "SAD,logFC"]
    ran(*score, "-o", path("natural.h5"), path("v.vcf"))
    ran(*score, "--no-unsquash", "-o", path("raw.h5"), path("v.vcf"))

    model = checkpoints.load(tmp_path / "m").double()

    def predictions(window: str, undo: bool) -> Array:
        x = np.eye(4)[["ACGT".index(base) for base in window]]
        with torch.inference_mode():
            # Reversed on both axes, the sequence is that of the other strand.
            forward, reverse = (
                model(torch.from_numpy(np.ascontiguousarray(each)[None]))[0].numpy()
                for each in (x, x[::-1, ::-1])
            )
        if undo:
            forward, reverse = natural(forward, squash), natural(reverse, squash)
        both: Array = (forward + reverse[::-1][:, PAIRS]) / 2
        return both

    for name, undo in (("natural.h5", True), ("raw.h5", False)):
        with h5py.File(tmp_path / name) as file:
            found = {stat: file[stat][:] for stat in ("SAD", "logFC")}
        for row, (place, alt) in enumerate(zip(places, alleles, strict=True)):
            window = letters[place - LENGTH // 2 : place + LENGTH // 2]
            changed = window[: LENGTH // 2] + alt + window[LENGTH // 2 + 1 :]
            ref, alternate = (predictions(each, undo).sum(axis=0) for each in (window, changed))
            assert found["SAD"][row] == pytest.approx(alternate - ref, rel=2e-3, abs=2e-4)
            assert np.abs(alternate - ref).max() > 0.01
            fold = np.log2(alternate + 1) - np.log2(ref + 1)
            assert found["logFC"][row] == pytest.approx(fold, rel=2e-3, abs=1e-5)
    divisor = SCALES[2] if squash == "power" else 1
    assert (predictions(window, undo=False)[:, 2] > divisor * CLIPS[2]).any()
