"""Batches: what augmentation does to sequence and targets, and that a number determines a batch."""

from __future__ import annotations

import numpy as np
import pytest

from gexpr.datasets import PreparedDataset, WindowData, prepare
from gexpr.datasets.prepare import PrepareOptions
from gexpr.errors import ConfigError
from gexpr.genome.codes import encode
from gexpr.genome.codes import reverse_complement as reverse_complement_codes
from gexpr.training.batches import TrainingBatches, reverse_complement, validation_batches
from gexpr.training.config import AugmentationConfig

PLAIN = AugmentationConfig(reverse_complement=False)


def test_reverse_complement_by_hand():
    data = WindowData(
        encode("AACGTN"),
        # tracks: +, -, unstranded
        np.array([[1, 2, 3], [4, 5, 6], [7, 8, 9]], dtype=np.float32),
        np.array([True, True, False]),
    )
    turned = reverse_complement(data, np.array([1, 0, 2]))
    np.testing.assert_array_equal(turned.codes, encode("NACGTT"))
    np.testing.assert_array_equal(turned.targets, [[8, 7, 9], [5, 4, 6], [2, 1, 3]])
    assert turned.valid.tolist() == [False, True, True]
    again = reverse_complement(turned, np.array([1, 0, 2]))
    for mine, other in zip(data, again, strict=True):
        np.testing.assert_array_equal(mine, other)


def test_reverse_complement_is_the_window_of_the_reversed_genome(tmp_path):
    # The same experiment told on the other strand: reversed contig, mirrored positions, swapped strands.
    generator = np.random.default_rng(2)
    length = 256
    sequence = "".join(np.array(list("ACGT"))[generator.integers(0, 4, length)])
    mirrored = sequence[::-1].translate(str.maketrans("ACGT", "TGCA"))
    forward, backward = [], []
    for position in generator.choice(length, 60, replace=False):
        strand, count = "+-"[generator.integers(0, 2)], generator.integers(1, 9)
        other = length - 1 - position
        forward.append(f"c\t{position}\t{position + 1}\t.\t{count}\t{strand}")
        backward.append(f"c\t{other}\t{other + 1}\t.\t{count}\t{'-' if strand == '+' else '+'}")
    datasets = []
    for name, text, lines in (("f", sequence, forward), ("b", mirrored, backward)):
        (tmp_path / f"{name}.fa").write_text(f">c\n{text}\n")
        (tmp_path / f"{name}.bed").write_text("\n".join(lines) + "\n")
        (tmp_path / f"{name}.tsv").write_text(
            f"id\tfiles\tstrand\tstrand_pair\np\t{name}.bed\t+\tm\nm\t{name}.bed\t-\tp\nu\t{name}.bed\t.\t.\n"
        )
        options = PrepareOptions(context_length=64, bin_size=8, target_length=4)
        prepare(tmp_path / f"{name}.fa", tmp_path / f"{name}.tsv", tmp_path / f"{name}.h5", options)
        datasets.append(PreparedDataset(tmp_path / f"{name}.h5"))
    for start in (-16, 0, 40, 96, 208):
        turned = reverse_complement(datasets[0].window("c", start), datasets[0].strand_pairs)
        expected = datasets[1].window("c", length - start - 64)
        for mine, other in zip(turned, expected, strict=True):
            np.testing.assert_array_equal(mine, other)


def test_a_number_determines_a_batch(motif_dataset):
    augmentation = AugmentationConfig(True, 3, 5)
    first = TrainingBatches(PreparedDataset(motif_dataset), "train", 5, 1, augmentation)
    second = TrainingBatches(PreparedDataset(motif_dataset), "train", 5, 1, augmentation)
    other = TrainingBatches(PreparedDataset(motif_dataset), "train", 5, 2, augmentation)
    expected = {number: first.batch(number) for number in (0, 1, 40, 100)}
    for number in (100, 0, 40, 1):
        for mine, again in zip(expected[number], second.batch(number), strict=True):
            np.testing.assert_array_equal(mine, again)
    assert not np.array_equal(expected[0].codes, other.batch(0).codes)
    assert not np.array_equal(expected[0].codes, expected[1].codes)


def test_a_thread_that_asks_for_another_pass_does_not_matter(motif_dataset):
    class Shared(TrainingBatches):
        @property
        def _order(self):
            return -1, np.empty(0, dtype=np.int64)

        @_order.setter
        def _order(self, order):
            pass

    alone, shared = (
        kind(PreparedDataset(motif_dataset), "train", 7, 3, PLAIN) for kind in (TrainingBatches, Shared)
    )
    for number in (0, 3, alone.count // 7, alone.count):
        np.testing.assert_array_equal(shared.window_numbers(number), alone.window_numbers(number))


def test_each_pass_shows_every_window_once_in_another_order(motif_dataset):
    dataset = PreparedDataset(motif_dataset)
    batches = TrainingBatches(dataset, "train", 7, 3, PLAIN)
    windows = dataset.windows("train")
    expected = sorted(dataset.window(*window[:2]).codes.tobytes() for window in windows)
    numbers = range(-(-2 * len(windows) // 7))
    shown = [codes.tobytes() for number in numbers for codes in batches.batch(number).codes]
    first, second = shown[: len(windows)], shown[len(windows) : 2 * len(windows)]
    assert sorted(first) == sorted(second) == expected
    assert first != second


def test_augmentation_draws_both_strands_and_the_whole_range(motif_dataset):
    dataset = PreparedDataset(motif_dataset)
    batches = TrainingBatches(dataset, "train", 16, 0, AugmentationConfig(True, 1, 1))
    windows = dataset.windows("train")
    found = set()
    for number in range(40):
        batch = batches.batch(number)
        for i in range(16):
            window = windows[batches.window_numbers(number)[i]]
            for jitter in (-1, 0, 1):
                for shift in (-1, 0, 1):
                    codes = dataset.window(*window[:2], jitter, shift).codes
                    for turned in (False, True):
                        shown = reverse_complement_codes(codes) if turned else codes
                        if np.array_equal(shown, batch.codes[i]):
                            found.add((jitter, shift, turned))
    assert len(found) == 18


def test_validation_shows_every_valid_bin_once(motif_dataset):
    dataset = PreparedDataset(motif_dataset)
    shown = np.concatenate([b.targets[b.valid] for b in validation_batches(dataset, "valid", 5)])
    np.testing.assert_array_equal(shown, dataset.targets("chr3"))


def test_a_stranded_track_without_partner_cannot_be_turned(tmp_path):
    (tmp_path / "g.fa").write_text(">c\n" + "ACGT" * 40 + "\n")
    (tmp_path / "a.bed").write_text("c\t1\t2\t.\t1\t+\n")
    (tmp_path / "t.tsv").write_text("id\tfiles\tstrand\nonly\ta.bed\t+\n")
    options = PrepareOptions(context_length=64, bin_size=8)
    prepare(tmp_path / "g.fa", tmp_path / "t.tsv", tmp_path / "d.h5", options)
    dataset = PreparedDataset(tmp_path / "d.h5")
    with pytest.raises(ConfigError, match="'only' is of strand \\+"):
        TrainingBatches(dataset, "train", 2, 0, AugmentationConfig())
    TrainingBatches(dataset, "train", 2, 0, PLAIN)
    with pytest.raises(ConfigError, match="'test' has no windows"):
        TrainingBatches(dataset, "test", 2, 0, PLAIN)
