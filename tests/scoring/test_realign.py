"""Indels on reference bins, against a loop over single bases."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gexpr.scoring.realign import Edits, covered_bins, to_reference_bins


def edits(*triples: tuple[int, int, int]) -> Edits:
    return Edits(*torch.tensor(triples, dtype=torch.int64).T)


def base_by_base(
    alternate: np.ndarray, anchor: int, ref_length: int, alt_length: int, bin_size: int, first: int
) -> tuple[np.ndarray, np.ndarray]:
    """What realign.py says in words, one base at a time; NaN where the alternate has no value."""
    bins = alternate.shape[0]

    def at(position: int) -> np.ndarray:
        index = (position - first) // bin_size
        if not 0 <= index < bins:
            return np.full(alternate.shape[1], np.nan)
        return alternate[index] / bin_size

    matched_end = anchor + min(ref_length, alt_length)
    result = np.zeros_like(alternate)
    for base in range(first, first + bins * bin_size):
        if base < matched_end:
            value = at(base)
            if base == matched_end - 1 and alt_length > ref_length:
                inserted = [at(base + i) for i in range(alt_length - ref_length + 1)]
                value = np.max(inserted, axis=0)
        elif base < anchor + ref_length:
            value = np.zeros(alternate.shape[1])
        else:
            value = at(base + alt_length - ref_length)
        result[(base - first) // bin_size] += value
    return result, ~np.isnan(result).any(axis=1)


CASES = [
    (anchor, ref, alt)
    for anchor in (5, 10, 30, 31, 32, 33, 38, 40)
    for ref, alt in [
        (0, 1),
        (0, 4),
        (0, 7),
        (1, 0),
        (4, 0),
        (9, 0),
        (2, 5),
        (5, 2),
        (1, 9),
        (3, 3),
        (1, 1),
        (0, 21),
    ]
]


@pytest.mark.parametrize(("bin_size", "first"), [(4, 12), (8, 8), (1, 20)])
def test_agrees_with_the_loop_over_bases(bin_size: int, first: int) -> None:
    bins = 40 // bin_size
    rng = np.random.default_rng(0)
    alternate = rng.random((len(CASES), bins, 3))
    result = to_reference_bins(torch.from_numpy(alternate), edits(*CASES), bin_size, first).numpy()
    covered = covered_bins(edits(*CASES), bins, bin_size, first).numpy()
    for index, case in enumerate(CASES):
        expected, valid = base_by_base(alternate[index], *case, bin_size, first)
        assert np.array_equal(covered[index], valid), case
        assert np.allclose(result[index][valid], expected[valid], rtol=1e-12), case


def test_equal_lengths_come_back_bit_by_bit() -> None:
    alternate = torch.rand(2, 10, 3)
    together = to_reference_bins(alternate, edits((30, 1, 1), (30, 0, 2)), 4, 12)
    assert torch.equal(together[0], alternate[0])
    assert to_reference_bins(alternate, edits((30, 1, 1), (30, 2, 2)), 4, 12) is alternate


def test_bins_before_an_indel_and_whole_bins_behind_it_are_exact() -> None:
    alternate = torch.rand(1, 10, 3)
    deleted = to_reference_bins(alternate, edits((32, 8, 0)), 4, 12)  # two whole bins, 5 and 6
    assert torch.equal(deleted[:, :5], alternate[:, :5])
    assert torch.equal(deleted[:, 5:7], torch.zeros(1, 2, 3))
    assert torch.equal(deleted[:, 7:], alternate[:, 5:8])


def test_an_insertion_into_a_flat_profile_changes_nothing() -> None:
    flat = torch.full((1, 10, 2), 3.0)
    result = to_reference_bins(flat, edits((33, 0, 6)), 4, 12)
    covered = covered_bins(edits((33, 0, 6)), 10, 4, 12)[0]
    assert covered.tolist() == [True] * 8 + [False] * 2
    assert torch.allclose(result[0, covered], flat[0, covered])


def test_a_row_does_not_depend_on_its_neighbours() -> None:
    alternate = torch.rand(len(CASES), 10, 3)
    together = to_reference_bins(alternate, edits(*CASES), 4, 12)
    for index, case in enumerate(CASES):
        alone = to_reference_bins(alternate[index : index + 1], edits(case), 4, 12)
        assert torch.equal(alone[0], together[index])
