"""Training on folders of TFRecords, on tables of sequences, and on folds."""

from __future__ import annotations

import dataclasses
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from click.testing import CliRunner
from tf_writer import example, frames

from gexpr import checkpoints
from gexpr.cli.main import main
from gexpr.datasets import Draws, PreparedDataset, StoredWindows, parse_fold
from gexpr.datasets.folds import deal
from gexpr.datasets.stored import cuts
from gexpr.errors import ConfigError, GexprError, InputError, Interrupted
from gexpr.genome.codes import decode, encode
from gexpr.models.layers import one_hot
from gexpr.results import affine_shift
from gexpr.training import TrainConfig, from_dict, train
from gexpr.training.batches import TrainingBatches, validation_batches
from gexpr.training.config import AugmentationConfig
from gexpr.training.sources import UNPACKED, open_source
from gexpr.training.state import load_state

LENGTH, SIZE, BINS = 64, 8, 4
TARGETS = """\tidentifier\tfile\tclip\tclip_soft\tscale\tsum_stat\tstrand_pair\tdescription
0\tA+\ta.w5\t384\t64\t0.3\tsum_sqrt\t1\tRNA:liver
1\tA-\tb.w5\t384\t64\t0.3\tsum_sqrt\t0\tRNA:liver
2\tB\tc.w5\t128\t32\t2\tmean\t2\tDNASE:liver
"""
COUNTS = {"train": 7, "valid": 3, "test": 2}


def records(seed: int, count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    draw = np.random.default_rng(seed)
    return [
        (draw.integers(0, 4, LENGTH, dtype=np.uint8), draw.random((BINS, 3)).astype(np.float16))
        for _ in range(count)
    ]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Windows of 64 bp with targets of the middle 4 bins of 8 bp; the second overlaps the first."""
    root = tmp_path / "human"
    (root / "tfrecords").mkdir(parents=True)
    sizes = {"num_targets": 3, "seq_length": LENGTH, "pool_width": SIZE, "target_length": BINS, "crop_bp": 16}
    counts = {f"{split}_seqs": count for split, count in COUNTS.items()}
    (root / "statistics.json").write_text(json.dumps(sizes | counts))
    (root / "targets.txt").write_text(TARGETS)
    lines = []
    for split, count in COUNTS.items():
        found = records(count, count)
        packed = [example({"sequence": c.tobytes(), "target": t.tobytes()}) for c, t in found]
        (root / "tfrecords" / f"{split}-0.tfr").write_bytes(zlib.compress(frames(packed)))
        for i in range(count):
            start = 1000 * i + 16 if i != 1 else 60
            lines.append(f"chr{split}\t{start}\t{start + 32}\t{split}")
    (root / "sequences.bed").write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """60 sequences of 24 bp whose value is the share of G and C, less 0.5; every other row of a cluster."""
    draw = np.random.default_rng(5)
    rows = ["seq\texpression\tsplit\tgroup"]
    for i in range(60):
        text = "".join("ACGT"[code] for code in draw.integers(0, 4, 24))
        value = (text.count("G") + text.count("C")) / 24 - 0.5
        rows.append(f"{text}\t{value!r}\t{'test' if i < 6 else 'valid' if i < 18 else 'train'}\tg{i // 2}")
    path = tmp_path / "promoters.tsv"
    path.write_text("\n".join(rows) + "\n")
    return path


def configuration(data: dict[str, Any], downsamples: int, **sections: Any) -> TrainConfig:
    settings = {
        "stem_channels": 8,
        "tower_channels": [8] * (downsamples - 1),
        "num_downsamples": downsamples,
        "dilated_layers": 1,
        "dilated_channels": 8,
        "final_channels": 8,
    }
    return from_dict(
        {
            "data": data,
            "model": {"architecture": "basenji", "settings": settings},
            "schedule": {"steps": 6},
            "training": {"batch_size": 4, "steps_per_epoch": 3, "metric": "pearson"}
            | sections.pop("training", {}),
            **sections,
        }
    )


def still(source: Any, windows: list[int], **moved: int) -> Draws:
    none = np.zeros(len(windows), dtype=np.int64)
    jitters, shifts = (none + moved.get(name, 0) for name in ("jitter", "shift"))
    return Draws(np.array(windows), jitters, shifts, none + moved.get("crop", source.central_crop))


def table_data(path: Path, **changes: Any) -> dict[str, Any]:
    return {"path": str(path), "value_columns": ["expression"], "length": 32, "pad": "left"} | changes


# -- folders of TFRecords ----------------------------------------------------------------------


def test_stored_windows_are_those_of_the_folder(folder):
    source = StoredWindows(folder)
    expected = records(3, 3)
    (batch,) = validation_batches(source, "valid", 5)
    np.testing.assert_array_equal(batch.codes, np.stack([codes for codes, _ in expected]))
    np.testing.assert_array_equal(batch.targets, np.stack([targets for _, targets in expected]))
    assert batch.valid.all() and batch.targets.dtype == np.float32
    assert source.strand_pairs.tolist() == [1, 0, 2]
    assert [track.transform for track in source.tracks] == [
        "squashed:shifted_power,exponent=0.5,clip_soft=64",
        "squashed:shifted_power,exponent=0.5,clip_soft=64",
        "squashed:shifted_power,exponent=1,clip_soft=32",
    ]
    assert (
        StoredWindows(folder, squash="power").tracks[0].transform.startswith("squashed:power,exponent=0.75")
    )


def test_jitter_moves_both_and_shift_the_sequence_alone(folder):
    source = StoredWindows(folder)
    codes, targets = records(7, 7)[2]
    moved = source.draw("train", still(source, [2], jitter=-1))
    np.testing.assert_array_equal(moved.codes[0], [4] * SIZE + codes[:-SIZE].tolist())
    np.testing.assert_array_equal(moved.targets[0, 1:], targets[:-1])
    assert moved.valid[0].tolist() == [False, True, True, True] and not moved.targets[0, 0].any()
    shifted = source.draw("train", still(source, [2], shift=3))
    np.testing.assert_array_equal(shifted.codes[0], codes[3:].tolist() + [4] * 3)
    np.testing.assert_array_equal(shifted.targets[0], targets)


def test_random_crops_show_the_targets_of_their_bases(folder):
    source = StoredWindows(folder, crop_length=32)
    assert (source.context_length, source.target_length) == (32, 4)
    codes, targets = records(7, 7)[0]
    seen = set()
    for crop in range(source.crops):
        batch = source.draw("train", still(source, [0], crop=crop))
        first = codes.tobytes().find(batch.codes[0].tobytes())
        assert first % SIZE == 0
        seen.add(first // SIZE)
        for b in range(4):
            place = first // SIZE + b - 2
            assert batch.valid[0, b] == (0 <= place < BINS)
            if batch.valid[0, b]:
                np.testing.assert_array_equal(batch.targets[0, b], targets[place])
        assert batch.valid.sum() >= 2
    assert seen == {0, 1, 2, 3, 4}
    (middle,) = validation_batches(source, "valid", 5)
    np.testing.assert_array_equal(middle.codes[0], records(3, 3)[0][0][16:48])
    assert middle.valid.all()
    drawn = TrainingBatches(source, "train", 50, 1, AugmentationConfig(False)).batch(0)
    assert len({codes.tobytes() for codes in drawn.codes}) > 7


@pytest.mark.parametrize(
    ("context", "targets", "bins"),
    [(8, 4, 4), (8, 4, 6), (8, 4, 3), (8, 8, 4), (4096, 2048, 2048), (9, 3, 4)],
)
def test_cuts_hold_at_least_half_of_their_targets(context, targets, bins):
    cut = cuts(context, targets, bins)
    assert (cut.bins - cut.target_length) % 2 == 0 and cut.target_length <= min(bins, targets)
    start = (context - targets) // 2
    for place in range(cut.places):
        first = cut.first + place + cut.crop
        inside = sum(start <= b < start + targets for b in range(first, first + cut.target_length))
        assert 2 * inside >= cut.target_length
        assert 0 <= cut.first + place <= context - bins
    assert 0 <= cut.central < cut.places
    if (context - bins) % 2 == 0:
        assert cut.first + cut.central == (context - bins) // 2


def test_windows_too_large_for_memory_are_unpacked_once(folder, tmp_path):
    cache = tmp_path / "cache"
    mapped = StoredWindows(folder, cache=cache, limit=0)
    assert isinstance(mapped._targets, np.memmap)
    plain = TrainingBatches(StoredWindows(folder), "train", 5, 1, AugmentationConfig(True, 1, 2))
    other = TrainingBatches(mapped, "train", 5, 1, AugmentationConfig(True, 1, 2))
    for mine, theirs in zip(plain.batch(3), other.batch(3), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    before = (cache / "sequences.u8").stat().st_mtime_ns
    StoredWindows(folder, cache=cache, limit=0)
    assert (cache / "sequences.u8").stat().st_mtime_ns == before
    path = folder / "tfrecords" / "train-0.tfr"
    changed = [example({"sequence": c.tobytes(), "target": t.tobytes()}) for c, t in records(1, 7)]
    path.write_bytes(zlib.compress(frames(changed)))
    again = StoredWindows(folder, cache=cache, limit=0)
    assert again.digest != mapped.digest
    np.testing.assert_array_equal(again._sequences[0], records(1, 7)[0][0])
    del mapped, again, other
    (cache / "sequences.u8").unlink()
    (cache / "targets.f16").write_bytes(b"12")
    again = StoredWindows(folder, cache=cache, limit=0)
    np.testing.assert_array_equal(again._sequences[0], records(1, 7)[0][0])


@pytest.mark.parametrize("limit", [0, 1 << 30])
def test_a_split_without_windows(folder, tmp_path, limit):
    (folder / "tfrecords" / "valid-0.tfr").write_bytes(zlib.compress(b""))
    statistics = json.loads((folder / "statistics.json").read_text())
    del statistics["valid_seqs"]
    (folder / "statistics.json").write_text(json.dumps(statistics))
    with pytest.raises(InputError, match="split 'valid' hold no window"):
        StoredWindows(folder, cache=tmp_path / "cache", limit=limit)
    assert not (tmp_path / "cache" / "unpacked.json").exists()


def test_a_cut_that_would_predict_no_bin(folder):
    statistics = json.loads((folder / "statistics.json").read_text())
    statistics |= {"pool_width": 16, "target_length": 1, "seq_length": 48, "crop_bp": 16}
    (folder / "statistics.json").write_text(json.dumps(statistics))
    with pytest.raises(ConfigError, match=r"crop_length is 32; .* must be an odd multiple of the 16 bp"):
        StoredWindows(folder, crop_length=32)


def test_training_on_a_folder_resumes_to_the_same_bits(folder, tmp_path):
    config = configuration(
        {"path": str(folder)}, 3, augmentation={"jitter_bins": 1, "shift_bp": 2, "crop_length": 48}
    )
    whole = train(config, tmp_path / "whole", device="cpu", threads=1)
    with pytest.raises(Interrupted):
        train(config, tmp_path / "parts", device="cpu", threads=1, stop=lambda step: step == 2)
    train(config, tmp_path / "parts", device="cpu", threads=1)
    one, other = (load_state(tmp_path / name / "last.ckpt")["model"] for name in ("whole", "parts"))
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())
    info = checkpoints.describe(whole.checkpoint)
    assert (info.context_length, info.target_length, info.bin_size) == (48, 4, 8)
    assert info.tracks[0].transform == "squashed:shifted_power,exponent=0.5,clip_soft=64"
    assert info.training["dataset"]["train"] == ["7 windows"]
    assert info.training["config"]["augmentation"]["reverse_complement"] is True
    card = (whole.checkpoint / "README.md").read_text()
    assert "test (test: not used in training): 2 windows" in card and "cut at random to 48 bp" in card
    assert not (tmp_path / "whole" / UNPACKED).exists()
    # The split that was not trained on is judged in the middle of its windows.
    command = ["evaluate", "-c", str(whole.checkpoint), "-d", str(folder), "-o", str(tmp_path / "out")]
    result = CliRunner().invoke(main, [*command, "--pool-width", "0", "--no-rc", "--pictures", "none"])
    assert result.exit_code == 0, result.output
    lines = [line.split("\t") for line in (tmp_path / "out" / "metrics.tsv").read_text().splitlines()]
    found = {(row[3], row[4], row[5]): (float(row[6]), int(row[7])) for row in lines[1:]}
    test = records(2, 2)
    with torch.no_grad():
        codes = torch.from_numpy(np.stack([codes[8:56] for codes, _ in test]))
        p = checkpoints.load(whole.checkpoint)(one_hot(codes)).numpy().reshape(-1, 3)
    y = np.stack([targets for _, targets in test]).reshape(-1, 3).astype(np.float64)
    assert found["B", "raw", "pearson"] == (pytest.approx(np.corrcoef(p[:, 2], y[:, 2])[0, 1], abs=1e-4), 8)


# -- tables --------------------------------------------------------------------------------------


def test_training_on_a_table_learns_it_and_the_command_evaluates_it(table, tmp_path, monkeypatch):
    content = configuration(
        table_data(table, targets="affine", prefix="GATTA"),
        5,
        augmentation={"shift_bp": 1},
        optimizer={"lr": 0.01},
        training={"batch_size": 16},
    ).to_dict()
    content["schedule"]["steps"] = 60
    content["data"]["path"] = table.name
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(content))
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, "train run.yaml -o run --threads 1 --device cpu -q".split())
    assert result.exit_code == 0, result.output
    info = checkpoints.describe(tmp_path / "run" / "checkpoint")
    (track,) = info.tracks
    shift = affine_shift(track.transform)
    rows = [line.split("\t") for line in table.read_text().splitlines()[1:]]
    assert (track.id, track.scale) == ("expression", 1.0)
    assert shift == -min(float(value) for _, value, split, _ in rows if split == "train")
    assert info.training["config"]["augmentation"]["reverse_complement"] is False
    found = info.training["validation"]
    assert found["spearman"] == found["spearman/expression"] > 0.3
    card = (tmp_path / "run" / "checkpoint" / "README.md").read_text()
    assert f"| expression | {found['pearson']:.3f} | {found['spearman']:.3f} |" in card
    (tmp_path / "subsets.json").write_text('{"some": [0, 2, 4, 30], "pairs": [[0, 1], [3, 2], [4, 40]]}')
    command = "evaluate -c run/checkpoint -d promoters.tsv --subsets subsets.json -o out --threads 1".split()
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 0, result.output
    lines = [line.split("\t") for line in (tmp_path / "out" / "metrics.tsv").read_text().splitlines()[1:]]
    found = {(level, statistic): (float(value), int(n)) for _, _, level, _, _, statistic, value, n in lines}
    values = [line.split("\t") for line in (tmp_path / "out" / "rows.tsv").read_text().splitlines()[1:]]
    assert [int(row) for row, *_ in values] == list(range(6))
    m, p = np.array([[float(x) for x in row[2:]] for row in values]).T
    np.testing.assert_allclose(m, [float(row[1]) for row in rows[:6]], atol=1e-6)
    assert found["row", "pearson"] == (pytest.approx(np.corrcoef(m, p)[0, 1], abs=1e-4), 6)
    assert found["row", "pearson"][0] > 0.5
    some = [0, 2, 4]
    assert found["subset some", "pearson"] == (
        pytest.approx(np.corrcoef(m[some], p[some])[0, 1], abs=1e-3),
        3,
    )
    assert found["difference pairs", "pearson"][1] == 2
    # In the unit of the table: the shift is undone.
    constructs = np.stack([encode(f"NNNGATTA{row[0]}") for row in rows[:6]])
    with torch.no_grad():
        raw = checkpoints.load(tmp_path / "run" / "checkpoint")(one_hot(torch.from_numpy(constructs)))
    np.testing.assert_allclose(p, raw.numpy()[:, 0, 0] - shift, atol=1e-5)


def test_standardized_targets_have_their_constants_in_the_track_table(table):
    source = open_source(configuration(table_data(table, targets="standardized"), 5))
    (batch,) = [source.draw("train", still(source, list(range(source.window_count("train")))))]
    assert batch.targets.mean() == pytest.approx(0, abs=1e-6)
    assert batch.targets.std() == pytest.approx(1, abs=1e-6)
    (track,) = source.tracks
    value = float(table.read_text().splitlines()[19].split("\t")[1])
    shift = affine_shift(track.transform)
    assert shift is not None and batch.targets[0, 0, 0] == pytest.approx(
        track.scale * value + shift, abs=1e-6
    )


def test_given_constants(table):
    source = open_source(configuration(table_data(table, targets="affine", scale=[2.0], shift=[1.5]), 5))
    assert (source.tracks[0].scale, source.tracks[0].transform) == (2.0, "affine:shift=1.5")
    with pytest.raises(ConfigError, match=r"data\.scale belongs to data.targets affine"):
        configuration(table_data(table, scale=[2.0]), 5)
    with pytest.raises(ConfigError, match=r"data\.shift has 2 numbers"):
        open_source(configuration(table_data(table, targets="affine", shift=[1, 2]), 5))


def test_shifts_move_constructs_and_show_what_was_cropped(table):
    source = open_source(
        configuration(
            table_data(table, length=26, pad="none", crop="left", prefix="AACCGG"),
            5,
            augmentation={"shift_bp": 5},
        )
    )
    text = table.read_text().splitlines()[19].split("\t")[0]
    whole = f"AACCGG{text}"
    for shift, expected in (
        (0, whole[4:]),
        (-3, whole[1:27]),
        (-5, f"N{whole[:25]}"),
        (2, f"{whole[6:]}NN"),
    ):
        batch = source.draw("train", still(source, [0], shift=shift))
        assert decode(batch.codes[0]) == expected


def test_a_large_batch_of_rows_is_drawn_at_once(table):
    source = open_source(configuration(table_data(table), 5))
    batch = TrainingBatches(source, "train", 1000, 1, AugmentationConfig()).batch(7)
    assert batch.codes.shape == (1000, 32) and batch.targets.shape == (1000, 1, 1)
    assert (batch.codes[:, :8] == 4).all()


@pytest.mark.parametrize(
    ("change", "augmentation", "message"),
    [
        ({"squash": "power"}, {}, "data.squash does not belong to a table"),
        ({}, {"jitter_bins": 2}, "augmentation.jitter_bins belongs to windows of genomes"),
        ({}, {"crop_length": 16}, "augmentation.crop_length belongs to folders"),
        ({"length": 20, "pad": "none"}, {}, "line 2: 24 bases, the model's input has 20; say with data.crop"),
        ({"pad": "none"}, {}, "line 2: 24 bases, the model's input has 32; say with data.pad"),
        ({"train_split": "training"}, {}, "no row of split 'training'; there are: test, train, valid"),
        ({"value_columns": []}, {}, "name the columns with measured values"),
    ],
)
def test_settings_that_do_not_fit_a_table(change, augmentation, message, table):
    with pytest.raises(GexprError, match=message):
        open_source(configuration(table_data(table, **change), 5, augmentation=augmentation))


# -- folds ---------------------------------------------------------------------------------------


def test_dealing_is_even_and_repeatable():
    owners = deal([5, 1, 1, 4, 1, 3], 3)
    sizes = np.bincount(owners, weights=[5, 1, 1, 4, 1, 3])
    assert sizes.tolist() == [5, 5, 5] and owners.tolist() == deal([5, 1, 1, 4, 1, 3], 3).tolist()
    with pytest.raises(ConfigError, match=r"2 groups .* cannot fill 3 folds"):
        deal([1, 2], 3)


@pytest.mark.parametrize("text", ["1", "5/5", "0/1", "a/b", "-1/3"])
def test_bad_folds(text, table):
    with pytest.raises(ConfigError, match="fold"):
        configuration(table_data(table), 5, training={"fold": text})


def test_folds_of_a_table_keep_clusters_whole_and_the_test_split_apart(table):
    data = table_data(table, cluster_column="group")
    shown = []
    for k in range(3):
        source = open_source(configuration(data, 5, training={"fold": f"{k}/3"}))
        parts = {}
        for split in ("train", "valid"):
            batch = source.draw(split, still(source, list(range(source.window_count(split)))))
            parts[split] = {decode(codes).lstrip("N") for codes in batch.codes}
        shown.append(parts["valid"])
        rows = [line.split("\t") for line in table.read_text().splitlines()[1:]]
        assert not any(row[0] in parts["train"] | parts["valid"] for row in rows if row[2] == "test")
        cluster = {row[0]: row[3] for row in rows}
        assert not {cluster[text] for text in parts["train"]} & {cluster[text] for text in parts["valid"]}
        assert len(parts["train"]) + len(parts["valid"]) == 54
    assert len(set.union(*shown)) == 54 and sum(map(len, shown)) == 54


def test_a_table_without_splits_is_dealt_out_whole(table, tmp_path):
    lines = [line.split("\t")[:2] for line in table.read_text().splitlines()]
    path = tmp_path / "plain.csv"
    path.write_text("\n".join(",".join(cells) for cells in lines) + "\n")
    with pytest.raises(InputError, match="says of no row which split"):
        open_source(configuration(table_data(path), 5))
    source = open_source(configuration(table_data(path), 5, training={"fold": "1/4"}))
    assert (source.window_count("train"), source.window_count("valid")) == (45, 15)


def test_folds_of_a_folder_keep_overlapping_windows_together(folder):
    overlapping = {records(7, 7)[i][0].tobytes() for i in (0, 1)}
    seen = []
    for k in range(4):
        source = StoredWindows(folder, fold=parse_fold(f"{k}/4"))
        (batch,) = validation_batches(source, "valid", 20)
        shown = {codes.tobytes() for codes in batch.codes}
        assert not shown & overlapping or overlapping <= shown
        seen.append(shown)
    everything = {
        codes.tobytes() for split in ("train", "valid") for codes, _ in records(*[COUNTS[split]] * 2)
    }
    assert set.union(*seen) == everything and sum(map(len, seen)) == 10


def test_folds_of_a_prepared_dataset_validate_every_bin_once(motif_dataset):
    dataset = PreparedDataset(motif_dataset)
    validated = []
    for k in range(3):
        folded = dataset.with_fold(parse_fold(f"{k}/3"))
        assert folded.windows("test") == dataset.windows("test")
        assert not set(folded.contigs_of("train")) & set(folded.contigs_of("valid"))
        assert {*folded.contigs_of("train"), *folded.contigs_of("valid")} == {"chr1", "chr2", "chr3"}
        validated += folded.contigs_of("valid")
        shown = np.concatenate([b.targets[b.valid] for b in validation_batches(folded, "valid", 5)])
        expected = np.concatenate([dataset.targets(contig) for contig in folded.contigs_of("valid")])
        np.testing.assert_array_equal(shown, expected)
        trained = TrainingBatches(folded, "train", 4, 1, AugmentationConfig()).batch(0)
        assert trained.valid.any()
    assert sorted(validated) == ["chr1", "chr2", "chr3"]
    # What was prepared is as it was.
    assert dataset.contigs_of("valid") == ("chr3",)


def test_the_command_names_the_folder_of_a_fold(table, tmp_path, monkeypatch):
    config = configuration(table_data(table), 5, output={"folder": "runs/"}, loss={"name": "mse"})
    content = dataclasses.replace(config).to_dict()
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(content))
    monkeypatch.chdir(tmp_path)
    command = "train run.yaml --fold 1/3 --threads 1 --device cpu -q".split()
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 0, result.output
    info = checkpoints.describe(tmp_path / "runs-fold1" / "checkpoint")
    assert info.training["config"]["training"]["fold"] == "1/3"
    assert "Fold 1/3" in (tmp_path / "runs-fold1" / "checkpoint" / "README.md").read_text()
    result = CliRunner().invoke(main, [*command, "-o", "runs-fold1", "--fold", "2/3"])
    assert result.exit_code == 1 and "training.fold" in result.output
