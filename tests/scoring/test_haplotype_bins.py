"""Several edits of one window: sequences, and predictions on reference bins, against loops over bases."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from gexpr.genome.codes import decode, encode
from gexpr.scoring import realign
from gexpr.scoring.haplotypes import base_map, edited_codes, realigned, realignment
from gexpr.variants.genotypes import Edit, overlap, reference_end

START, LENGTH, BINS = 100, 60, 10


def spelled_out(reference: str, edits: list[Edit]) -> list[tuple[str, int]]:
    """The edited sequence: each letter with the reference base that it is, or behind which it is inserted."""
    found: list[tuple[str, int]] = []
    here = START
    for edit in edits:
        found += [(reference[i], i) for i in range(here, edit.start)]
        matched = min(len(edit.ref), len(edit.alt))
        for number, letter in enumerate(edit.alt):
            found.append((letter, edit.start + min(number, matched - 1)))
        here = edit.end
    return found + [(reference[i], i) for i in range(here, len(reference))]


def drawn_edits(rng: np.random.Generator, reference: str) -> list[Edit]:
    """Sorted edits without overlaps: substitutions, insertions, deletions, and all of them at once."""
    edits: list[Edit] = []
    here = START + int(rng.integers(0, 4))
    while here < START + LENGTH + 20:
        replaced, new = int(rng.integers(0, 8)), int(rng.integers(0, 8))
        if replaced or new:
            alt = "".join(rng.choice(list("ACGT"), new))
            edits.append(Edit(here, reference[here : here + replaced], alt))
        here += max(replaced, 1) + int(rng.choice([-1 if replaced else 0, 0, 1, 5, 15]))
    return [each for number, each in enumerate(edits) if not overlap(edits[max(0, number - 1) : number + 1])]


def base_by_base(
    prediction: np.ndarray, spelled: list[tuple[str, int]], bin_size: int, first: int
) -> tuple[np.ndarray, np.ndarray]:
    """What realign.py says in words, one base at a time, and the bins that have all they need."""
    bins = len(prediction)
    places: dict[int, list[int]] = {}
    for place, (_, base) in enumerate(spelled):
        places.setdefault(base, []).append(place)

    def at(place: int) -> np.ndarray:
        index = (place - first) // bin_size
        return prediction[index] / bin_size if 0 <= index < bins else np.full(prediction.shape[1], np.nan)

    result = np.zeros_like(prediction)
    for base in range(first, first + bins * bin_size):
        values = [at(place) for place in places.get(START + base, [])]
        result[(base - first) // bin_size] += np.max(values, axis=0) if values else 0
    return result, ~np.isnan(result).any(axis=1)


@pytest.fixture(scope="module")
def reference() -> str:
    return "".join(np.random.default_rng(5).choice(list("ACGT"), START + 4 * LENGTH))


@pytest.mark.parametrize("seed", range(60))
def test_several_edits_agree_with_loops_over_bases(seed: int, reference: str) -> None:
    rng = np.random.default_rng(seed)
    edits = drawn_edits(rng, reference)
    spelled = spelled_out(reference, edits)
    end = reference_end(edits, START, LENGTH)
    codes = edited_codes(encode(reference[START : max(end, START + LENGTH)]), edits, START, LENGTH)
    assert decode(codes) == "".join(letter for letter, _ in spelled)[:LENGTH]
    for bin_size, first in ((4, 12), (8, 0), (1, 20), (5, 3)):
        bins = min(BINS, (LENGTH - first) // bin_size)
        prediction = rng.random((bins, 3))
        expected, valid = base_by_base(prediction, spelled, bin_size, first)
        how = realignment(base_map(edits, START, 3 * LENGTH), bins, bin_size, first)
        assert np.array_equal(how.covered, valid), edits
        found = realigned(torch.from_numpy(prediction), how, bin_size).numpy()
        assert np.allclose(found[valid], expected[valid], rtol=1e-12, atol=0), edits


def test_the_drawn_edits_are_what_the_test_needs(reference: str) -> None:
    drawn = [drawn_edits(np.random.default_rng(seed), reference) for seed in range(60)]
    every = [edit for edits in drawn for edit in edits]
    assert np.mean([len(edits) for edits in drawn]) > 4
    assert sum(len(each.ref) == len(each.alt) for each in every) > 10
    assert sum(not each.ref for each in every) > 10 and sum(not each.alt for each in every) > 10
    neighbors = sum(a.end == b.start for edits in drawn for a, b in itertools.pairwise(edits))
    assert neighbors > 10


@pytest.mark.parametrize("lengths", [(0, 1), (0, 7), (0, 21), (1, 0), (9, 0), (2, 5), (5, 2), (3, 3)])
@pytest.mark.parametrize("anchor", [30, 31, 33, 40])
def test_one_edit_is_realigned_as_ever(anchor: int, lengths: tuple[int, int]) -> None:
    replaced, new = lengths
    prediction = torch.rand((1, 10, 3), generator=torch.Generator().manual_seed(1))
    edit = realign.Edits(*torch.tensor([(anchor, replaced, new)]).T)
    expected = realign.to_reference_bins(prediction, edit, 4, 12)[0]
    bases = base_map([Edit(START + anchor, "A" * replaced, "C" * new)], START, 3 * LENGTH)
    how = realignment(bases, 10, 4, 12)
    assert how.covered.tolist() == realign.covered_bins(edit, 10, 4, 12)[0].tolist()
    assert bases.is_identity == (replaced == new)
    found = realigned(prediction[0], how, 4)
    assert torch.allclose(found[how.covered], expected[how.covered], rtol=1e-6, atol=0)


def test_a_deletion_at_the_very_start_moves_all_bases() -> None:
    assert not base_map([Edit(START, "AC", "")], START, LENGTH).is_identity
    assert base_map([Edit(START, "AC", "GT")], START, LENGTH).is_identity
