"""What was measured in a part of a contig: of files of every kind, and of a prepared dataset."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gexpr.datasets import PreparedDataset
from gexpr.datasets.coverage import open_coverage
from gexpr.errors import ConfigError
from gexpr.results import Region, Track
from gexpr.runs.pictures import dataset_region, parse_measured, with_dataset, with_files
from gexpr.scoring.profiles import RegionProfiles

LENGTHS = {"chrA": 1000, "chrB": 523, "chrC": 400}
TRACKS = (Track(0, "w-", "wild -", strand="-"), Track(1, "other", "Other"))


def predicted(start: int, bins: int, size: int = 8, contig: str = "chrA") -> RegionProfiles:
    """Predictions of 1 without measurements."""
    ones = np.ones((bins, 2), dtype=np.float32)
    return RegionProfiles(contig, start, size, TRACKS, ones, ones * np.nan)


@pytest.mark.parametrize("file", ["minus.bw", "minus.bedgraph.gz", "rep2.bed.gz"])
@pytest.mark.parametrize(("start", "end"), [(0, 1000), (301, 433), (999, 1000)])
def test_a_part_of_a_contig_has_the_values_of_the_whole(
    signals: Path, file: str, start: int, end: int
) -> None:
    kind = {"bw": "bigwig", "bedgraph": "bedgraph", "bed": "bed"}[file.split(".")[1]]
    coverage = open_coverage(signals / file, kind, LENGTHS, "-" if kind == "bed" else ".")
    np.testing.assert_array_equal(coverage.values("chrA", start, end), coverage.values("chrA")[start:end])


def test_files_of_a_track_are_added_over_bins_of_its_strand(signals: Path, counts: dict) -> None:
    measured = [("w-", str(signals / name)) for name in ("rep1.bed.gz", "rep2.bed.gz")]
    (found,) = with_files([predicted(984, 4)], measured, LENGTHS)
    expected = np.zeros(32)
    expected[:16] = counts["chrA", "-"][984:]
    np.testing.assert_allclose(found.measured[:, 0], expected.reshape(4, 8).sum(axis=1))
    assert np.isnan(found.measured[:, 1]).all()


def test_a_file_needs_its_track_where_there_are_several(signals: Path) -> None:
    assert parse_measured([f"w-={signals / 'minus.bw'}", "a.bed"]) == [
        ("w-", str(signals / "minus.bw")),
        ("", "a.bed"),
    ]
    with pytest.raises(ConfigError, match="is for 2 tracks"):
        with_files([predicted(0, 1)], [("", str(signals / "minus.bw"))], LENGTHS)
    with pytest.raises(ConfigError, match="tells no format"):
        with_files([predicted(0, 1)], [("w-", "counts.txt")], LENGTHS)


def test_targets_of_a_dataset_lie_on_its_bins(dataset: PreparedDataset) -> None:
    region = dataset_region(Region("chrA", 295, 321), dataset)
    assert (region.start, region.end) == (288, 328)
    assert dataset_region(Region("chrB", 500, 1 << 62), dataset).end == 8 * dataset.bins["chrB"]
    (found,) = with_dataset([predicted(288, 5)], dataset)
    targets = dataset.targets("chrA")[36:41, 1]
    valid = dataset.valid("chrA")[36:41]
    assert not valid.all()
    np.testing.assert_array_equal(found.measured[valid, 0], targets[valid])
    assert np.isnan(found.measured[~valid, 0]).all()
    assert np.isnan(found.measured[:, 1]).all()
    with pytest.raises(ConfigError, match="bins of 8 bp, the checkpoint of 16 bp"):
        with_dataset([predicted(288, 5, 16)], dataset)
    with pytest.raises(ConfigError, match="no contig chrZ"):
        dataset_region(Region("chrZ", 1, 2), dataset)
