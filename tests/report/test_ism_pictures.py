"""Pictures of mutagenesis and attributions: letters, changes and positions of both strands."""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from gexpr.cli.main import main
from gexpr.errors import ConfigError
from gexpr.report.ism import BaseNumbers, draw_bases, read_bases
from gexpr.report.logos import draw_logos
from gexpr.results import Region, Track
from gexpr.writers.output import AtomicOutput
from gexpr.writers.regions import ATTRIBUTIONS, MUTAGENESIS, BaseSchema, BasesFile, BasesHdf5Writer

CODES = np.array([0, 1, 2, 3, 0, 0], dtype=np.uint8)
TRACKS = (Track(0, "weak", "Weak"), Track(1, "strong", "Strong"))


def write(path: Path, strand: str = "+", attributions: bool = False) -> BasesFile:
    """Six bases of chr1 from base 101; the change of the second base to A lowers the strong track by 3."""
    effects = np.zeros((6, 4, 2), dtype=np.float32)
    effects[1, 0, 1] = -3
    effects[:, :, 0] = 0.01
    effects[np.arange(6), CODES] = 0
    region = Region("chr1", 100, 106, "site", ".", strand)
    with AtomicOutput(str(path)) as output:
        if attributions:
            about = {"target": "log2sum"}
            schema = BaseSchema(ATTRIBUTIONS, TRACKS, {"contributions": (2,)}, {}, 6, about)
            arrays = {"contributions": -effects.sum(axis=1)}
        else:
            schema = BaseSchema(
                MUTAGENESIS, TRACKS, {"logFC": (4, 2), "SAD": (4, 2)}, {}, 6, {"statistics": "logFC,SAD"}
            )
            arrays = {"logFC": effects, "SAD": effects}
        writer = BasesHdf5Writer(output, schema)
        writer.write(region, CODES, arrays)
        writer.commit()
    return BasesFile(path)


def numbers(path: Path, **options: Any) -> BaseNumbers:
    ((found, _, _),) = read_bases(write(path), **options)
    return found


def test_the_track_with_the_largest_numbers_is_drawn(tmp_path: Path) -> None:
    file = write(tmp_path / "a.h5")
    ((found, quantity, track),) = read_bases(file)
    assert (quantity, track) == ("logFC", "strong")
    # Minus the mean over three substitutions.
    assert found.heights[1].tolist() == [0, 1, 0, 0]
    assert [track for _, _, track in read_bases(file, most=2)] == ["weak", "strong"]
    assert [track for _, _, track in read_bases(file, tracks="weak", statistic="SAD")] == ["weak"]
    with pytest.raises(ConfigError, match="it has logFC, SAD"):
        list(read_bases(file, statistic="JS"))


def test_a_part_of_a_region(tmp_path: Path) -> None:
    found = numbers(tmp_path / "a.h5", regions=[Region("1", 101, 103)])
    assert (found.region.start, found.region.end) == (101, 103)
    assert found.positions().tolist() == [102, 103]
    assert found.heights.shape == (2, 4)
    with pytest.raises(ConfigError, match="no base"):
        numbers(tmp_path / "b.h5", regions=[Region("chr1", 106, 200)])


def test_positions_of_the_minus_strand_descend(tmp_path: Path) -> None:
    ((found, _, _),) = read_bases(write(tmp_path / "a.h5", "-"))
    assert found.positions().tolist() == [106, 105, 104, 103, 102, 101]
    part = found.within(100, 102)
    assert part.positions().tolist() == [102, 101]
    np.testing.assert_array_equal(part.heights, found.heights[4:])
    axes = draw_bases(found, quantity="logFC", track="strong").axes
    assert axes[1].get_xlabel() == "position on chr1 (bp, − strand: 5′ to 3′ from left to right)"


def test_rows_have_a_logo_and_a_map_of_changes(tmp_path: Path) -> None:
    figure = draw_bases(numbers(tmp_path / "a.h5"), quantity="logFC", track="strong", per_row=4)
    logo, heat, second, _, bar = figure.axes
    assert figure.get_suptitle() == "site, chr1:101–106, strong"
    assert logo.get_ylim() == second.get_ylim()
    assert [label.get_text() for label in heat.get_yticklabels()] == ["A", "C", "G", "T"]
    assert [label.get_text() for label in heat.get_xticklabels()] == ["101", "102", "103", "104"]
    (dots,) = heat.lines
    assert dots.get_ydata().tolist() == [0, 1, 2, 3]
    assert bar.get_ylabel() == "logFC (log2)"
    with pytest.raises(ConfigError, match="choose a part with --region"):
        draw_bases(
            numbers(tmp_path / "b.h5")._replace(sequence=np.ones((999, 4))),
            quantity="x",
            track="y",
            per_row=4,
        )


def test_attributions_have_a_logo_alone(tmp_path: Path) -> None:
    ((found, quantity, _),) = read_bases(write(tmp_path / "a.h5", attributions=True))
    assert quantity == "contribution to\nlog2(1 + sum)"
    assert found.heights[1].tolist() == [0, 3, 0, 0]
    (logo,) = draw_bases(found, quantity=quantity, track="strong").axes
    assert logo.get_ylabel() == "contribution to\nlog2(1 + sum)"
    assert logo.get_xlabel() == "position on chr1 (bp)"


def test_the_command_writes_a_picture_for_each_track(tmp_path: Path) -> None:
    write(tmp_path / "a.h5")
    arguments = ["plot", "ism", str(tmp_path / "a.h5"), "--max-tracks", "2", "-o", str(tmp_path / "a.png")]
    result = CliRunner().invoke(main, [*arguments, "--dpi", "40"])
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in tmp_path.glob("*.png")) == ["a-1.png", "a-2.png"]


@pytest.mark.parametrize(
    ("strand", "label"),
    [("+", "position on chr1 (bp)"), ("-", "position on chr1 (bp, − strand: 5′ to 3′ from left to right)")],
)
def test_logos_have_positions_and_units(tmp_path: Path, strand: str, label: str) -> None:
    write(tmp_path / "a.h5", strand)
    (path,) = draw_logos(tmp_path / "a.h5", tmp_path / "logos", ".svg")
    text = html.unescape(Path(path).read_text())
    assert label in text and "−mean" in text and "logFC (log2)" in text and "site, chr1:101–106" in text
    shown = [position for position in range(101, 107) if f">{position}<" in text]
    assert len(shown) > 1
