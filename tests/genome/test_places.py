"""Regions as text, and which intervals overlap them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gexpr.errors import ConfigError, InputError
from gexpr.genome.places import Places, parse_region, with_bed
from gexpr.results import Region


@pytest.mark.parametrize(
    ("text", "chrom", "start", "end"),
    [
        ("chr1:1-10", "chr1", 0, 10),
        ("chr1:1,001-2,000", "chr1", 1000, 2000),
        (" X:5-5 ", "X", 4, 5),
        ("chr1:7", "chr1", 6, 7),
        ("chr1:7-", "chr1", 6, None),
        ("chrUn_1", "chrUn_1", 0, None),
        ("HLA-A*01:01:1-9", "HLA-A*01:01", 0, 9),
        ("scaffold-12", "scaffold-12", 0, None),
    ],
)
def test_regions_as_text(text: str, chrom: str, start: int, end: int | None) -> None:
    region = parse_region(text)
    assert (region.chrom, region.start) == (chrom, start)
    assert region.end == end if end is not None else region.end > 10**12


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("chr1:0-5", "positions count from 1"),
        ("chr1:9-5", "'chr1:9-5' ends before it starts"),
        ("", "is not a region"),
        ("chr1:a5-b", "is not a region such as chr1:1,000-2,000"),
        ("chr1 5 9", "is not a region"),
        ("chr1:5--9", "is not a region"),
    ],
)
def test_what_is_no_region(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_region(text)


def test_overlaps_are_those_of_a_plain_loop() -> None:
    generator = np.random.default_rng(3)
    regions = [
        Region(f"chr{generator.integers(1, 3)}", int(s), int(s + n))
        for s, n in zip(generator.integers(0, 900, 25), generator.integers(1, 20, 25), strict=True)
    ]
    chroms = [f"chr{n}" for n in generator.integers(1, 4, 500)]
    starts = generator.integers(0, 950, 500)
    ends = starts + generator.integers(1, 6, 500)
    expected = [
        any(r.chrom == c and r.start < e and s < r.end for r in regions)
        for c, s, e in zip(chroms, starts, ends, strict=True)
    ]
    places = Places(regions)
    assert 50 < sum(expected) < 450
    assert places.overlap(chroms, starts, ends).tolist() == expected
    assert places.missing() == [] and sorted(places.met) == ["chr1", "chr2", "chr3"]


def test_contigs_are_matched_with_and_without_chr() -> None:
    places = Places([parse_region("1:5-9"), parse_region("chrX"), parse_region("chr9:1-2")])
    zero, one = np.array([3, 4, 99]), np.array([4, 5, 100])
    assert places.overlap(["chr1", "chr1", "X"], zero, one).tolist() == [False, True, True]
    assert places.missing() == ["chr9"]


def test_regions_of_a_file_join_those_given(tmp_path: Path) -> None:
    bed = tmp_path / "r.bed"
    bed.write_text("chr2\t10\t20\tname\n")
    assert [each[:3] for each in with_bed([parse_region("chr1:1-5")], str(bed))] == [
        ("chr1", 0, 5),
        ("chr2", 10, 20),
    ]
    assert with_bed([], None) == ()
    bed.write_text("# nothing\n")
    with pytest.raises(InputError, match=r"r\.bed: it has no region"):
        with_bed([], str(bed))
