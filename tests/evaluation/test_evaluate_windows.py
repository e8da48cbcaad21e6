"""Evaluation window by window: folders of TFRecords, prepared datasets, anything that has windows."""

from __future__ import annotations

import csv
import json
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import torch
from click.testing import CliRunner
from tf_writer import example, frames

from gexpr import checkpoints
from gexpr.cli.main import main
from gexpr.datasets import BasenjiDataset, PreparedDataset, WindowData
from gexpr.errors import ConfigError, InputError
from gexpr.evaluation import (
    Evaluation,
    Genes,
    Metric,
    Settings,
    evaluate_windows,
    group_lines,
    summary_lines,
)
from gexpr.evaluation.groups import groups_of
from gexpr.models import registry
from gexpr.models.base import SequenceModel
from gexpr.models.layers import one_hot
from gexpr.results import Track

LENGTH, BINS, BIN = 256, 24, 8
TRACKS = [
    Track(0, "A+", "CAGE:a", "CAGE", "a", "+", 1),
    Track(1, "A-", "CAGE:a", "CAGE", "a", "-", 0),
    Track(2, "D", "DNASE:b", "DNASE", "b", ".", 2),
    Track(3, "R", "RNA:c", "RNA", "c", ".", 3),
]
TABLE = "\tidentifier\tfile\tstrand_pair\tdescription\n" + "".join(
    f"{track.index}\t{track.id}\tx.w5\t{track.strand_pair}\t{track.label}\n" for track in TRACKS
)
SETTINGS = Settings(pool_width=16)


@pytest.fixture(scope="module")
def windows() -> list[tuple[np.ndarray, np.ndarray]]:
    draw = np.random.default_rng(4)
    return [
        (
            draw.integers(0, 5, LENGTH, dtype=np.uint8),
            draw.gamma(0.4, 3, (BINS, len(TRACKS))).astype(np.float16),
        )
        for _ in range(5)
    ]


@pytest.fixture()
def folder(windows: list[tuple[np.ndarray, np.ndarray]], tmp_path: Path) -> Path:
    """Three windows of codes in one file of the test split, two of one-hot bases in another."""
    made = tmp_path / "tfr"
    (made / "tfrecords").mkdir(parents=True)
    statistics = dict(num_targets=4, seq_length=LENGTH, pool_width=BIN, target_length=BINS, crop_bp=32)
    (made / "statistics.json").write_text(json.dumps({**statistics, "test_seqs": 5}))
    (made / "targets.txt").write_text(TABLE)
    letters = np.vstack([np.eye(4, dtype=np.uint8), np.zeros((1, 4), dtype=np.uint8)])
    for number, part in ((2, windows[:3]), (10, windows[3:])):
        records = [
            example(
                {
                    "sequence": (codes if number == 2 else letters[codes]).tobytes(),
                    "target": targets.tobytes(),
                }
            )
            for codes, targets in part
        ]
        (made / "tfrecords" / f"test-{number}.tfr").write_bytes(zlib.compress(frames(records)))
    return made


@pytest.fixture(scope="module")
def model() -> SequenceModel:
    return make_model(len(TRACKS))


def make_model(tracks: int, **changes: int) -> SequenceModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        settings = dict(
            context_length=LENGTH,
            target_length=BINS,
            heads={"tracks": tracks},
            channels=24,
            num_downsamples=3,
            divisible_by=4,
            depth=1,
            attention_heads=2,
            key_size=8,
            block_size=4,
            random_blocks=1,
        )
        made = registry.build("sparse_enformer", {**settings, **changes})
        for parameter in made.parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
    made.tracks = TRACKS[:tracks]
    return made.eval()


def predictions(model: SequenceModel, codes: np.ndarray, both: bool) -> np.ndarray:
    with torch.inference_mode():
        forward = model(one_hot(torch.from_numpy(codes)[None]))[0].numpy()
        if not both:
            return np.asarray(forward)
        turned = np.array([3, 2, 1, 0, 4], dtype=np.uint8)[codes][::-1].copy()
        reverse = model(one_hot(torch.from_numpy(turned)[None]))[0].numpy()[::-1][:, [1, 0, 2, 3]]
        return np.asarray((forward + reverse) / 2)


def written(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(text.splitlines(), delimiter="\t"))


@pytest.mark.parametrize("both", [True, False], ids=["rc", "forward"])
@pytest.mark.parametrize("batch_size", [1, 2, None])
def test_every_number_against_scipy(
    both: bool,
    batch_size: int | None,
    folder: Path,
    windows: list[tuple[np.ndarray, np.ndarray]],
    model: SequenceModel,
) -> None:
    result = evaluate_windows(
        BasenjiDataset(folder), model, SETTINGS, reverse_complement=both, batch_size=batch_size
    )
    measured = np.stack([targets for _, targets in windows]).astype(np.float64)
    predicted = np.stack([predictions(model, codes, both) for codes, _ in windows]).astype(np.float64)
    for level, factor in (("bin", 1), ("bin16", 2)):
        x, y = (
            each.reshape(5, BINS // factor, factor, 4).sum(axis=2).reshape(-1, 4)
            for each in (measured, predicted)
        )
        for i, track in enumerate(TRACKS):
            for transform, change in (("raw", np.asarray), ("log1p", np.log1p)):
                a, b = change(x[:, i]), change(y[:, i])
                expected = scipy.stats.pearsonr(a, b).statistic
                assert result.value(level, track.id, transform) == pytest.approx(expected, abs=1e-6)
                expected = 1 - np.square(a - b).sum() / np.square(a - a.mean()).sum()
                assert result.value(level, track.id, transform, "r2") == pytest.approx(expected, abs=1e-5)
    assert {row.n for row in result.metrics} == {5 * BINS, 5 * BINS // 2}
    assert {name: int(each.counts.sum()) for name, each in result.assay_densities.items()} == {
        "CAGE": 2 * 5 * BINS,
        "DNASE": 5 * BINS,
        "RNA": 5 * BINS,
    }
    assert result.notes == []


def test_tracks_are_matched_by_id_in_any_order(folder: Path) -> None:
    dataset = BasenjiDataset(folder)
    straight = evaluate_windows(dataset, make_model(4), SETTINGS)
    order = [3, 1, 0, 2]
    shuffled = make_model(4)
    output = next(each for each in shuffled.modules() if getattr(each, "out_features", 0) == 4)
    with torch.no_grad():
        for parameter in output.parameters():
            parameter.copy_(parameter[order])
    shuffled.tracks = [
        TRACKS[old]._replace(index=new, strand_pair=order.index(TRACKS[old].strand_pair))
        for new, old in enumerate(order)
    ]
    found = evaluate_windows(dataset, shuffled, SETTINGS)
    assert [row.name for row in found.metrics] == [row.name for row in straight.metrics]
    assert [row.value for row in found.metrics] == pytest.approx(
        [row.value for row in straight.metrics], abs=1e-5
    )


def test_tracks_without_counterpart_are_told(folder: Path, model: SequenceModel) -> None:
    dataset = BasenjiDataset(folder)
    (few,) = [evaluate_windows(dataset, make_model(3), SETTINGS)]
    assert [track.id for track in few.tracks] == ["A+", "A-", "D"]
    assert few.notes == [f"1 of the 4 tracks of {folder} have no counterpart and were left out"]
    other = make_model(4)
    other.tracks = [track._replace(id=f"other{track.index}") for track in TRACKS]
    with pytest.raises(ConfigError, match=r"no track id in common \(4 and 4 tracks; ids: other0.* and A\+"):
        evaluate_windows(dataset, other, SETTINGS)
    other.tracks = [track._replace(id="A+" if track.index < 2 else track.id) for track in TRACKS]
    with pytest.raises(ConfigError, match=r"the model has the track id 'A\+' twice"):
        evaluate_windows(dataset, other, SETTINGS)


def test_without_names_tracks_are_matched_by_order(folder: Path, model: SequenceModel) -> None:
    named = evaluate_windows(BasenjiDataset(folder), model, SETTINGS)
    (folder / "targets.txt").unlink()
    from_model = evaluate_windows(BasenjiDataset(folder), model, SETTINGS)
    assert from_model.metrics == named.metrics
    bare = make_model(4)
    bare.tracks = []
    unnamed = evaluate_windows(BasenjiDataset(folder), bare, SETTINGS, reverse_complement=False)
    assert [track.id for track in unnamed.tracks] == ["0", "1", "2", "3"]
    bare = make_model(3)
    bare.tracks = []
    with pytest.raises(ConfigError, match=r"head 'tracks' has 3 tracks and .*tfr has 4"):
        evaluate_windows(BasenjiDataset(folder), bare, SETTINGS)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"context_length": 512}, "512 bp and predicts the middle 24 bins of 8 bp"),
        ({"target_length": 20}, "256 bp and predicts the middle 20 bins of 8 bp"),
        ({"num_downsamples": 2}, "256 bp and predicts the middle 24 bins of 4 bp"),
    ],
    ids=str,
)
def test_windows_and_bins_must_agree(changes: dict[str, int], told: str, folder: Path) -> None:
    with pytest.raises(ConfigError, match=told) as caught:
        evaluate_windows(BasenjiDataset(folder), make_model(4, **changes), SETTINGS)
    assert f"{folder} has windows of 256 bp with targets of the middle 24 bins of 8 bp" in str(caught.value)


def test_what_cannot_be_evaluated(folder: Path, model: SequenceModel) -> None:
    dataset = BasenjiDataset(folder)
    with pytest.raises(InputError, match="no split 'valid'; there are: test"):
        evaluate_windows(dataset, model, SETTINGS._replace(split="valid"))
    with pytest.raises(ConfigError, match="multiple of 8"):
        evaluate_windows(dataset, model, SETTINGS._replace(pool_width=20))
    genes = Genes(*(np.zeros(0, dtype=kind) for kind in (str, str, np.int64, np.int64, bool)))
    with pytest.raises(ConfigError, match="genes cannot be judged"):
        evaluate_windows(dataset, model, SETTINGS._replace(genes=genes))
    lone = make_model(4)
    lone.tracks = [track._replace(strand_pair=track.index) for track in TRACKS]
    with pytest.raises(ConfigError, match="--no-rc"):
        evaluate_windows(dataset, lone, SETTINGS)


class Made:
    """Windows that exist only while they are asked for."""

    path = Path("made")
    tracks = TRACKS
    track_count = 4
    context_length, target_length, bin_size, crop = LENGTH, BINS, BIN, 4
    splits = ("test",)

    def __init__(self, count: int) -> None:
        self.count = count
        self.asked = 0

    def window_count(self, split: str) -> int | None:
        return None

    def window_data(self, split: str) -> Iterator[WindowData]:
        draw = np.random.default_rng(0)
        for _ in range(self.count):
            self.asked += 1
            valid = np.arange(BINS) > 3
            targets = np.where(valid[:, None], draw.random((BINS, 4)), np.float32(1e6)).astype(np.float32)
            yield WindowData(draw.integers(0, 4, LENGTH, dtype=np.uint8), targets, valid)


def test_windows_are_read_batch_by_batch_and_only_valid_bins_count(
    model: SequenceModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset, seen = Made(7), []
    forward = model.forward
    monkeypatch.setattr(model, "forward", lambda x, head=None: (seen.append(dataset.asked), forward(x))[1])
    result = evaluate_windows(dataset, model, SETTINGS, reverse_complement=False, batch_size=2)
    assert seen == [2, 4, 6, 7]
    assert {(row.level, row.n) for row in result.metrics} == {("bin", 7 * 20), ("bin16", 7 * 10)}
    # Values that are not valid are a million.
    assert all(int(each.counts[50:].sum()) == 0 for each in result.assay_densities.values())
    with pytest.raises(InputError, match="made: no window belongs to the split 'test'"):
        evaluate_windows(Made(0), model, SETTINGS)


def test_a_prepared_dataset_has_windows_too(plain: PreparedDataset) -> None:
    model = make_model(4, context_length=200, target_length=15)
    model.tracks = list(plain.tracks)
    result = evaluate_windows(plain, model, SETTINGS._replace(pool_width=None), reverse_complement=False)
    data = list(plain.window_data("test"))
    values = [(each.targets[each.valid], predictions(model, each.codes, False)[each.valid]) for each in data]
    measured, predicted = (np.concatenate(side) for side in zip(*values, strict=True))
    for i, track in enumerate(plain.tracks):
        expected = scipy.stats.pearsonr(measured[:, i], predicted[:, i]).statistic
        assert result.value("bin", track.id, "raw") == pytest.approx(expected, abs=1e-6)


def metric(name: str, value: float, level: str = "bin") -> Metric:
    return Metric("model", "test", level, name, "raw", "pearson", value, 10)


def test_groups_by_hand() -> None:
    tracks = [TRACKS[0], TRACKS[1], TRACKS[2], TRACKS[3]._replace(assay="")]
    values = {"A+": 0.1, "A-": 0.4, "D": float("nan"), "R": 0.9}
    rows = [metric(name, value) for name, value in values.items()] + [metric("a", 0.2, "gene")]
    found = {row.assay: row for row in groups_of(rows, tracks)}
    assert list(found) == ["CAGE", "DNASE", "none", "all"]
    assert found["CAGE"][6:] == pytest.approx((2, 0.25, 0.25, 0.1, 0.4))
    assert found["DNASE"].tracks == 0 and np.isnan(found["DNASE"].mean)
    assert found["all"][6:] == pytest.approx((3, 1.4 / 3, 0.4, 0.1, 0.9))
    assert [row.assay for row in groups_of(rows[:2], tracks[:2])] == ["CAGE"]


@pytest.mark.parametrize("count", [4, 31])
def test_many_tracks_are_summed_up(count: int) -> None:
    tracks = [Track(i, f"t{i}", f"t{i}", "CAGE") for i in range(count)]
    result = Evaluation("model", "test", [], [], 8, "targets", SETTINGS.window, tracks=tracks)
    result.metrics = [metric(track.id, 0.5) for track in tracks]
    listed, grouped = summary_lines([result]), group_lines([result])
    if count == 4:
        assert len(listed) == 5 and grouped == []
    else:
        assert listed == []
        assert [line.split() for line in grouped[1:]] == [
            ["model", "bin", "CAGE", "raw", "31", "0.500", "0.500", "0.500", "0.500"]
        ]


def test_command_on_a_folder(folder: Path, model: SequenceModel, tmp_path: Path) -> None:
    checkpoints.save(tmp_path / "checkpoint", model, TRACKS, {}, "card")
    out = tmp_path / "out"
    arguments = ["evaluate", "-c", str(tmp_path / "checkpoint"), "-d", str(folder), "-o", str(out)]
    arguments += ["--device", "cpu", "--pool-width", "16"]
    ran = CliRunner().invoke(main, arguments)
    assert ran.exit_code == 0, ran.output
    expected = evaluate_windows(BasenjiDataset(folder), model, SETTINGS)
    rows = written((out / "metrics.tsv").read_text())
    assert [float(row["value"]) for row in rows] == pytest.approx(
        [row.value for row in expected.metrics], rel=1e-5, nan_ok=True
    )
    groups = written((out / "groups.tsv").read_text())
    assert list(groups[0])[3:] == [
        "assay", "transform", "statistic", "tracks", "mean", "median", "minimum", "maximum"
    ]  # fmt: skip
    assert [row["assay"] for row in groups[:4]] == ["CAGE", "DNASE", "RNA", "all"]
    values = [expected.value("bin", name, "raw") for name in ("A+", "A-")]
    assert float(groups[0]["mean"]) == pytest.approx(np.mean(values), rel=1e-4)
    for line in (*summary_lines([expected]), *group_lines([expected])):
        assert line in ran.stdout
    assert {path.name for path in out.iterdir()} == {
        "metrics.tsv",
        "groups.tsv",
        *(f"model_assay_{assay}.png" for assay in ("CAGE", "DNASE", "RNA")),
    }
    again = CliRunner().invoke(main, arguments)
    assert again.exit_code == 1 and "metrics.tsv exists; give --force" in again.stderr


def test_command_refuses_what_a_folder_does_not_have(
    folder: Path, prepared_folder: Path, tmp_path: Path
) -> None:
    genes, plain = str(prepared_folder / "genes.bed"), str(prepared_folder / "plain.h5")
    for arguments, code, message in (
        (["-d", str(folder)], 2, "nothing to evaluate: give --checkpoint"),
        (["-d", str(folder), "-c", "net", "-g", genes], 2, "--genes needs a dataset made by gexpr prepare"),
        (["-d", str(folder), "--replicates", "a,b"], 2, "--replicates needs a dataset made by gexpr prepare"),
        (["-d", plain, "-c", "net", "--split", "fold3"], 2, "'fold3' is not one of: train, valid, test"),
        (["-d", str(tmp_path), "-c", "net"], 1, "not Basenji's statistics"),
    ):
        ran = CliRunner().invoke(main, ["evaluate", *arguments, "-o", str(tmp_path / "out")])
        assert ran.exit_code == code, ran.output
        assert message in " ".join(ran.stderr.replace("│", " ").split()), ran.stderr
    assert not (tmp_path / "out").exists()
