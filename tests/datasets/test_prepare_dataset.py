"""gexpr prepare: the numbers in the file, what is dropped, and what is refused."""

from __future__ import annotations

import dataclasses
import gzip
import pickle
from pathlib import Path

import h5py
import numpy as np
import pytest
from click.testing import CliRunner

from gexpr.cli.main import main
from gexpr.datasets import PreparedDataset, PrepareOptions, PrepareSummary, prepare
from gexpr.datasets.transforms import pool, soft_clip, target
from gexpr.errors import GexprError, InputError
from gexpr.genome.fasta import Fasta

LENGTHS = {"chrA": 1000, "chrB": 523, "chrC": 400}
GAP = ("chrA", 300, 310)
OPTIONS = PrepareOptions(
    context_length=128, bin_size=8, target_length=8, stride=32, valid=("chrB",), test=("chrC",)
)


def binned(values: np.ndarray, size: int = 8) -> np.ndarray:
    return np.array([values[i : i + size].sum() for i in range(0, len(values) - size + 1, size)])


def test_targets_are_bin_sums_of_both_replicates(dataset, counts):
    for contig in LENGTHS:
        expected = np.stack([binned(counts[contig, strand]) for strand in "+-"], axis=1)
        np.testing.assert_array_equal(dataset.targets(contig), expected)


@pytest.mark.parametrize("kind", ["bedgraph", "bigwig"])
def test_every_format_gives_the_same_targets(kind, tmp_path, genome, signals, dataset):
    prepare(genome, signals / f"{kind}.tsv", tmp_path / "other.h5", OPTIONS)
    other = PreparedDataset(tmp_path / "other.h5")
    for contig in LENGTHS:
        np.testing.assert_array_equal(other.targets(contig), dataset.targets(contig))


def test_a_bed_interval_spreads_its_count_and_a_bedgraph_one_repeats_its_value(tmp_path, genome):
    (tmp_path / "a.bed").write_text("chrA\t4\t12\t.\t16\t+\nchrA\t5\t6\t.\t1\t+\n")
    (tmp_path / "a.bedgraph").write_text("chrA 4 12 16\n")
    (tmp_path / "t.tsv").write_text("id\tfiles\nbed\ta.bed\ngraph\ta.bedgraph\n")
    prepare(genome, tmp_path / "t.tsv", tmp_path / "d.h5", OPTIONS)
    targets = PreparedDataset(tmp_path / "d.h5").targets("chrA")
    np.testing.assert_array_equal(targets[:3], [[9, 64], [8, 64], [0, 0]])


def test_sequence_tracks_and_geometry(dataset, genome):
    assert dataset.contigs == tuple(LENGTHS)
    assert (dataset.context_length, dataset.bin_size, dataset.target_length, dataset.crop) == (128, 8, 8, 4)
    for contig, length in LENGTHS.items():
        np.testing.assert_array_equal(dataset.sequence(contig), Fasta(genome).codes(contig, 0, length))
    assert [(t.id, t.label, t.strand, t.strand_pair) for t in dataset.tracks] == [
        ("w+", "wild +", "+", 1),
        ("w-", "wild -", "-", 0),
    ]
    assert dataset.tracks[0].assay == "STRIPE" and dataset.tracks[0].cell_type == "yeast"
    assert dataset.strand_pairs.tolist() == [1, 0]


def test_bins_with_an_unknown_base_are_invalid(dataset):
    expected = np.ones(LENGTHS[GAP[0]] // 8, dtype=bool)
    expected[GAP[1] // 8 : -(-GAP[2] // 8)] = False
    np.testing.assert_array_equal(dataset.valid(GAP[0]), expected)
    assert dataset.valid("chrB").all()


def test_windows_of_a_split_cover_every_bin_and_no_other_contig(dataset):
    owners = {"train": "chrA", "valid": "chrB", "test": "chrC"}
    assert dataset.splits == ("train", "valid", "test")
    for split, contig in owners.items():
        seen = np.zeros(LENGTHS[contig] // 8, dtype=int)
        for window in dataset.windows(split):
            assert window.contig == contig
            first = window.start // 8 + dataset.crop
            inside = dataset.window(*window[:2], split=split).valid
            assert len(inside) == 8
            seen[first : first + 8] += 1
        assert seen.min() >= 1
        if split != "train":
            assert seen.max() == 1
        assert dataset.contigs_of(split) == (contig,)
    steps = np.diff([window.start for window in dataset.windows("train")])
    assert set(steps.tolist()) == {32}


def test_window_values_are_those_of_the_contig_with_padding_outside(dataset):
    start = dataset.windows("train")[0].start
    assert start == -32
    data = dataset.window("chrA", start)
    assert (data.codes[:32] == 4).all()
    np.testing.assert_array_equal(data.codes[32:], dataset.sequence("chrA")[:96])
    np.testing.assert_array_equal(data.targets, dataset.targets("chrA")[:8])
    assert data.valid.all()
    last = dataset.windows("valid")[-1]
    data = dataset.window("chrB", last.start)
    outside = last.start // 8 + 4 + np.arange(8) >= 523 // 8
    assert outside.any() and not outside.all()
    np.testing.assert_array_equal(data.valid, ~outside)
    assert (data.targets[outside] == 0).all()
    far = dataset.window("chrC", 4000)
    assert (far.codes == 4).all() and not far.valid.any()


def test_prepared_windows_as_every_dataset_has_them(dataset):
    assert dataset.track_count == len(dataset.tracks)
    for split in dataset.splits:
        windows = dataset.windows(split)
        assert dataset.window_count(split) == len(windows)
        for data, window in zip(dataset.window_data(split), windows, strict=True):
            expected = dataset.window(window.contig, window.start, split=split)
            for mine, other in zip(data, expected, strict=True):
                np.testing.assert_array_equal(mine, other)


def test_jitter_moves_everything_and_shift_only_the_sequence(dataset):
    moved = dataset.window("chrA", 160, jitter=-3, shift=2)
    np.testing.assert_array_equal(moved.codes, dataset.sequence("chrA")[160 - 24 + 2 :][:128])
    np.testing.assert_array_equal(moved.targets, dataset.targets("chrA")[20 - 3 + 4 :][:8])
    with pytest.raises(GexprError, match="not a multiple of the bin size"):
        dataset.window("chrA", 3)


def test_reading_piecewise_and_after_pickling_gives_the_same(dataset, made):
    lazy = PreparedDataset(made[0], in_memory=False)
    lazy.window("chrA", 160)
    for copy in (lazy, pickle.loads(pickle.dumps(lazy)), pickle.loads(pickle.dumps(dataset))):
        for window in dataset.windows("train") + dataset.windows("valid"):
            for mine, other in zip(
                dataset.window(*window[:2], split="train"),
                copy.window(*window[:2], split="train"),
                strict=True,
            ):
                np.testing.assert_array_equal(mine, other)


def test_digest_depends_on_content_alone(made, tmp_path, genome, signals):
    again = prepare(genome, signals / "bed.tsv", tmp_path / "again.h5", OPTIONS)
    assert again.digest == made[1].digest == PreparedDataset(made[0]).digest
    other = dataclasses.replace(OPTIONS, soft_clip=30.0)
    assert prepare(genome, signals / "bed.tsv", tmp_path / "again.h5", other).digest != again.digest


def test_summary_counts_what_was_kept_and_dropped(made, counts):
    summary: PrepareSummary = made[1]
    assert summary.bins == {"train": 125 - 2, "valid": 65, "test": 50}
    assert summary.gap_bins == 2 and summary.blacklist_bins == 0
    plus = sum(int(counts[contig, "+"].sum()) for contig in LENGTHS)
    assert summary.tracks[0].counts == plus
    minus_lines = sum(
        int((counts[contig, "-"] > 0).sum() + (counts[contig, "-"] > 1).sum()) for contig in LENGTHS
    )
    assert summary.tracks[0].other_strand == minus_lines
    assert summary.tracks[0].unknown_contigs == {"Mito": 1}
    text = "\n".join(summary.lines())
    assert f"{plus:,}" in text and "Mito" in text and "chrB" in text


def test_scale_pool_and_clips_in_their_order():
    values = np.array([0, 1, 2, 3, 10, 20, 30, 40, 99], dtype=float)
    np.testing.assert_allclose(pool(values, 4, "sum"), [6, 100])
    np.testing.assert_allclose(pool(values, 4, "mean"), [1.5, 25])
    np.testing.assert_allclose(pool(values, 4, "max"), [3, 40])
    np.testing.assert_allclose(pool(values, 4, "sum_sqrt"), [np.sqrt(7) - 1, np.sqrt(101) - 1])
    np.testing.assert_allclose(soft_clip(np.array([3.0, 10.0, 11.0, 18.0]), 10.0), [3, 10, 9 + 2**0.5, 12])
    # 2 x 100 = 200 is clipped softly at 104 to 103 + sqrt(97), then hard at 110.
    np.testing.assert_allclose(target(values, 4, 2.0, "sum", 104.0), [12, 103 + np.sqrt(97)], rtol=1e-6)
    np.testing.assert_allclose(target(values, 4, 2.0, "sum", 104.0, 110.0), [12, 110], rtol=1e-6)


def test_clips_of_the_table_win_over_the_option_and_are_counted(tmp_path, genome, signals, counts):
    table = (signals / "bed.tsv").read_text().splitlines()
    table[0] += "\tclip_soft\tclip\tscale\tsum_stat"
    table[1] += "\t20\t25\t0.5\tsum"
    table[2] += "\t.\t\t\tmax"
    (signals / "clips.tsv").write_text("\n".join(table))
    options = dataclasses.replace(OPTIONS, soft_clip=40.0)
    summary = prepare(genome, signals / "clips.tsv", tmp_path / "d.h5", options)
    targets = PreparedDataset(tmp_path / "d.h5").targets("chrA")
    plus = 0.5 * binned(counts["chrA", "+"])
    soft = np.where(plus > 20, 19 + np.sqrt(np.maximum(plus - 19, 0)), plus)
    np.testing.assert_allclose(targets[:, 0], np.minimum(soft, 25), rtol=1e-6)
    minus = counts["chrA", "-"][:1000].reshape(-1, 8).max(axis=1).astype(float)
    np.testing.assert_allclose(
        targets[:, 1], np.where(minus > 40, 39 + np.sqrt(np.maximum(minus - 39, 0)), minus), rtol=1e-6
    )
    everything = 0.5 * np.concatenate([binned(counts[contig, "+"]) for contig in LENGTHS])
    assert summary.tracks[0].soft_clipped == (everything > 20).sum() > 0
    assert summary.tracks[0].clipped == (19 + np.sqrt(np.maximum(everything - 19, 0)) > 25).sum() > 0
    assert summary.tracks[1].clipped == 0 < summary.tracks[1].soft_clipped
    assert PreparedDataset(tmp_path / "d.h5").tracks[0].scale == 0.5


def test_blacklist_exclusion_and_gap_windows(tmp_path, genome, signals):
    (tmp_path / "black.bed").write_text("chrA\t500\t1000\nchrA\t5\t6\nchrZ\t1\t2\n")
    options = dataclasses.replace(
        OPTIONS, blacklist=tmp_path / "black.bed", exclude=("chrC",), test=(), max_gap_fraction=0.25
    )
    summary = prepare(genome, signals / "bed.tsv", tmp_path / "d.h5", options)
    data = PreparedDataset(tmp_path / "d.h5")
    assert data.contigs == ("chrA", "chrB") and summary.excluded == ["chrC"]
    valid = data.valid("chrA")
    assert not valid[0] and valid[1] and valid[61] and not valid[62:].any()
    assert summary.blacklist_bins == 1 + 125 - 62
    assert summary.dropped_windows["train"] > 0
    for window in data.windows("train"):
        assert data.window(*window[:2]).valid.mean() >= 0.75
    assert "excluded contigs: chrC" in "\n".join(summary.lines())


def test_split_bed_keeps_bins_of_other_splits_out(tmp_path, genome, signals):
    (tmp_path / "split.bed").write_text("chrA\t0\t404\ttrain\nchrA\t404\t600\tvalid\nchrB\t100\t400\ttrain\n")
    options = dataclasses.replace(OPTIONS, valid=(), test=(), split_bed=tmp_path / "split.bed")
    prepare(genome, signals / "bed.tsv", tmp_path / "d.h5", options)
    data = PreparedDataset(tmp_path / "d.h5")
    assert data.contigs == ("chrA", "chrB")
    owner = data.bin_splits("chrA")
    assert (
        (owner[:50] == 0).all()
        and owner[50] == 255
        and (owner[51:75] == 1).all()
        and (owner[75:] == 255).all()
    )
    window = data.windows("train")[-1]
    jittered = [data.window("chrA", 352, jitter=jitter, split="train") for jitter in range(6)]
    for jitter, shown in enumerate(jittered):
        first = 352 // 8 + 4 + jitter
        np.testing.assert_array_equal(shown.valid, owner[first : first + 8] == 0)
    assert window.contig == "chrB"
    with pytest.raises(InputError, match="overlap"):
        (tmp_path / "split.bed").write_text("chrA\t0\t404\ttrain\nchrA\t300\t600\tvalid\n")
        prepare(genome, signals / "bed.tsv", tmp_path / "d.h5", options)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bin_size": 7}, "not a multiple of the bin size"),
        ({"target_length": 7}, "target length 7 does not fit"),
        ({"crop_bp": 32}, "either the target length or the crop"),
        ({"target_length": None, "crop_bp": 12}, "crop of 12 bp does not fit"),
        ({"target_length": None, "crop_bp": 64}, "crop of 64 bp does not fit"),
        ({"stride": 12}, "stride 12 is not a positive multiple"),
        ({"stride": 128}, "bins would be lost"),
        ({"valid": ("chrQ",)}, "no contig 'chrQ'"),
        ({"valid": ("chrC",)}, "both --valid and --test"),
        ({"exclude": ("chrA",)}, "no contig is left for training"),
        ({"soft_clip": 0.5}, "soft clip 0.5"),
    ],
)
def test_options_that_do_not_fit(change, message, tmp_path, genome, signals):
    with pytest.raises(GexprError, match=message):
        prepare(genome, signals / "bed.tsv", tmp_path / "d.h5", dataclasses.replace(OPTIONS, **change))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("chrA\t5\t6\t.", "4 columns"),
        ("chrA\tx\t6\t.\t1\t+", "whole numbers"),
        ("chrA\t6\t6\t.\t1\t+", "empty, reversed or negative"),
        ("chrA\t999\t1001\t.\t1\t+", "past the end of chrA"),
        ("chrA\t5\t6\t.\t-1\t+", "0 or more"),
        ("chrA\t5\t6\t.\tnan\t+", "0 or more"),
        ("chrA\t5\t6\t.\t1\t.", "strand"),
    ],
)
def test_bad_signal_lines_are_told_with_their_number(line, message, tmp_path, genome):
    (tmp_path / "a.bed").write_text("chrA\t1\t2\t.\t3\t+\n\n" + line + "\n")
    (tmp_path / "t.tsv").write_text("id\tfiles\tstrand\nx\ta.bed\t+\n")
    with pytest.raises(InputError, match=message) as caught:
        prepare(genome, tmp_path / "t.tsv", tmp_path / "d.h5", OPTIONS)
    assert caught.value.line == 3
    assert not (tmp_path / "d.h5").exists()


def test_a_cut_gzip_file_and_a_false_bigwig_are_refused(tmp_path, genome):
    whole = gzip.compress(b"chrA\t1\t2\t3\n" * 5000)
    (tmp_path / "a.bedgraph.gz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "t.tsv").write_text("id\tfiles\nx\ta.bedgraph.gz\n")
    with pytest.raises(InputError, match="cut or corrupt"):
        prepare(genome, tmp_path / "t.tsv", tmp_path / "d.h5", OPTIONS)
    (tmp_path / "a.bw").write_text("no bigWig\n")
    (tmp_path / "t.tsv").write_text("id\tfiles\nx\ta.bw\n")
    with pytest.raises(InputError, match="bigWig"):
        prepare(genome, tmp_path / "t.tsv", tmp_path / "d.h5", OPTIONS)


@pytest.mark.parametrize(
    ("table", "message", "line"),
    [
        ("id\tfiles\tcolour\nx\ta.bed\tred\n", "unknown column 'colour'", 1),
        ("id\tlabel\nx\ty\n", "column 'files' is missing", 1),
        ("id\tfiles\nx\ta.bed\textra\n", "3 columns where the header has 2", 2),
        ("id\tfiles\nx\tnone.bed\n", "file not found", 2),
        ("id\tfiles\nx\ta.bed\nx\ta.bed\n", "used twice", 3),
        ("id\tfiles\tstrand\nx\ta.bed\tplus\n", "strand is 'plus'; allowed", 2),
        ("id\tfiles\tscale\nx\ta.bed\t-2\n", "scale is '-2'", 2),
        ("id\tfiles\tclip_soft\nx\ta.bed\t0.5\n", "clip_soft is '0.5'", 2),
        ("id\tfiles\tstrand_pair\nx\ta.bed\ty\n", "not an id of this table", 2),
        ("id\tfiles\tstrand\tstrand_pair\nx\ta.bed\t+\ty\ny\ta.bed\t-\t\n", "not mutual", 2),
        ("id\tfiles\tstrand\tstrand_pair\nx\ta.bed\t+\ty\ny\ta.bed\t+\tx\n", "must be \\+ and -", 2),
        ("id\tfiles\nx\ta.txt\n", "cannot tell the format", 2),
        ("", "empty", None),
    ],
)
def test_track_table_errors(table, message, line, tmp_path, genome):
    (tmp_path / "a.bed").write_text("chrA\t1\t2\t.\t3\t+\n")
    (tmp_path / "a.txt").write_text("")
    (tmp_path / "t.tsv").write_text(table)
    with pytest.raises(InputError, match=message) as caught:
        prepare(genome, tmp_path / "t.tsv", tmp_path / "d.h5", OPTIONS)
    assert caught.value.line == line


def test_a_file_that_is_no_dataset_or_is_damaged(tmp_path, made):
    with pytest.raises(InputError, match="no such dataset"):
        PreparedDataset(tmp_path / "none.h5")
    (tmp_path / "text.h5").write_text("text")
    with pytest.raises(InputError, match="not a readable prepared dataset"):
        PreparedDataset(tmp_path / "text.h5")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file.attrs["x"] = 1
    with pytest.raises(InputError, match="not a prepared dataset"):
        PreparedDataset(tmp_path / "other.h5")
    whole = Path(made[0]).read_bytes()
    (tmp_path / "cut.h5").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="not a readable prepared dataset"):
        PreparedDataset(tmp_path / "cut.h5")


def test_command_passes_its_options_and_prints_the_summary(tmp_path, genome, signals, made):
    command = ["prepare", "--fasta", str(genome), "--tracks", str(signals / "bed.tsv")]
    command += ["-o", str(tmp_path / "d.h5"), "--context-length", "128", "--bin-size", "8"]
    command += ["--crop-bp", "32", "--stride", "32", "--valid", "chrB", "--test", "chrC"]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 0, result.output
    assert "windows" in result.stderr and "w+" in result.stderr
    assert PreparedDataset(tmp_path / "d.h5").digest == made[1].digest
    before = (tmp_path / "d.h5").read_bytes()
    result = CliRunner().invoke(main, [*command, "--valid", "chrA", "--test", "chrB"])
    assert result.exit_code == 1 and "exists; give --force" in result.stderr
    assert (tmp_path / "d.h5").read_bytes() == before
    result = CliRunner().invoke(main, [*command, "--quiet", "--force"])
    assert result.exit_code == 0 and result.output == ""
    onto_itself = [*command[:3], *command[3:5], "-o", str(genome), *command[7:], "--force"]
    result = CliRunner().invoke(main, onto_itself)
    assert result.exit_code == 1 and "is also an input" in result.stderr
    result = CliRunner().invoke(main, [*command, "--valid", "chrQ", "--force"])
    assert result.exit_code == 1 and "chrQ" in result.stderr


def test_command_warns_of_a_track_without_signal(tmp_path, genome):
    (tmp_path / "a.bed").write_text("chrA\t1\t2\t.\t3\t-\n")
    (tmp_path / "t.tsv").write_text("id\tfiles\tstrand\nx\ta.bed\t+\n")
    command = ["prepare", "--fasta", str(genome), "--tracks", str(tmp_path / "t.tsv"), "-o"]
    command += [str(tmp_path / "d.h5"), "--context-length", "128", "--bin-size", "8"]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 0 and "track x has no signal" in result.stderr


@pytest.mark.data
def test_yeast_counts_are_all_there(reference_data, tmp_path):
    folder = reference_data / "data" / "yeast"
    files = ",".join(str(folder / "stripe_seq" / f"S288C_WT_{i}.bed.gz") for i in (1, 2, 3))
    (tmp_path / "t.tsv").write_text(
        f"id\tfiles\tstrand\tstrand_pair\nw+\t{files}\t+\tw-\nw-\t{files}\t-\tw+\n"
    )
    options = PrepareOptions(
        context_length=16384, bin_size=16, crop_bp=2048, valid=("chrVIII",), test=("chrI", "chrIX")
    )
    summary = prepare(folder / "sacCer3.fa.gz", tmp_path / "t.tsv", tmp_path / "yeast.h5", options)
    assert sum(track.counts for track in summary.tracks) == 402_963 + 405_753 + 467_523
    assert summary.contigs["test"] == ["chrI", "chrIX"] and len(summary.contigs["train"]) == 13
