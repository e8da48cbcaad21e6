import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gexpr.genome.windows import region_bins, tile, variant_window_start


def test_variant_sits_at_the_middle_index() -> None:
    assert variant_window_start(100, 8) == 96
    assert variant_window_start(3, 8) == -1
    assert variant_window_start(100, 9) == 96


def test_bins_start_at_the_region_or_are_centred_on_it() -> None:
    assert region_bins(100, 164, 32) == (100, 2)
    assert region_bins(100, 165, 32) == (85, 3)  # 31 bases of excess: 15 left, 16 right
    assert region_bins(0, 1, 32) == (-15, 1)
    with pytest.raises(ValueError, match="start < end"):
        region_bins(5, 5, 32)


def test_a_short_region_is_centred_in_the_context() -> None:
    (only,) = tile(1000, 1064, context_length=512, core_length=256, bin_size=32)
    assert (only.first_bin, only.last_bin) == (3, 5)
    assert only.window_start == 1032 - 256
    assert (only.start, only.end) == (1000, 1064)


@settings(deadline=None)
@given(
    start=st.integers(0, 500),
    length=st.integers(1, 3000),
    bin_size=st.integers(1, 40),
    target=st.integers(1, 30),
    crop=st.integers(0, 10),
)
def test_bins_of_all_tiles_are_the_bins_of_the_region(
    start: int, length: int, bin_size: int, target: int, crop: int
) -> None:
    end = start + length
    tiles = tile(start, end, (target + 2 * crop) * bin_size, target * bin_size, bin_size)
    positions = [
        piece.window_start + (crop + b) * bin_size
        for piece in tiles
        for b in range(piece.first_bin, piece.last_bin)
    ]
    bins = -(-length // bin_size)
    assert len(positions) == bins and len(tiles) == -(-bins // target)
    assert positions == list(range(positions[0], positions[0] + bins * bin_size, bin_size))
    left, right = start - positions[0], positions[-1] + bin_size - end
    assert 0 <= left <= right <= left + 1
    for piece in tiles:
        assert 0 <= piece.first_bin < piece.last_bin <= target
        assert piece.start == piece.window_start + (crop + piece.first_bin) * bin_size
        assert piece.end - piece.start == (piece.last_bin - piece.first_bin) * bin_size
        before, after = piece.first_bin, target - piece.last_bin
        assert 0 <= after - before <= 1


def test_a_core_that_is_not_centred_on_bins_is_refused() -> None:
    for context, core in ((100, 96), (64, 96), (128, 80), (97, 64)):
        with pytest.raises(ValueError, match="not centered"):
            tile(0, 10, context, core, 32)
