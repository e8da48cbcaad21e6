"""Pictures of tracks, genes, letters and scores: what is on the axes, and equal files for equal contents."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gexpr.errors import ConfigError, GexprError
from gexpr.genome.genes import Gene
from gexpr.report import gene_models, style
from gexpr.report.logo import draw_logo
from gexpr.report.scores import draw_scores, parse_panels
from gexpr.report.tracks import draw_region, draw_variant, measured_first, strongest_columns, variant_title
from gexpr.results import Track, Variant
from gexpr.scoring.profiles import AlleleProfiles, RegionProfiles
from gexpr.writers.score_summary import Contig, ScoreSummary, Strongest

TRACKS = (Track(0, "a", "Starts", strand="+"), Track(1, "b", "ATAC", transform="log2"))
GENES = [
    Gene("g1", "ABC1", "chr1", "+", 1100, 1300, ((1100, 1150), (1250, 1300)), (1100,)),
    Gene("g2", "XYZ2", "chr1", "-", 1290, 1500, ((1290, 1500),), (1499,)),
    Gene("g3", "FAR3", "chr1", "+", 9000, 9100, ((9000, 9100),), (9000,)),
]


def alleles(name: str = "rs1") -> AlleleProfiles:
    """30 bins of 16 bp from base 1,000; the second track changes in one bin, the first in none."""
    generator = np.random.default_rng(0)
    reference = generator.gamma(1, 10, (30, 2)).astype(np.float32)
    alternate = reference.copy()
    alternate[15, 1] += 5
    variant = Variant(0, 1, "chr1", 1250, name, "A", "G", "ok", "chr1", 1249, "A", "G")
    return AlleleProfiles(variant, 1000, 16, TRACKS, reference, alternate)


def axes_of(figure: Any) -> list[Any]:
    figure.canvas.draw()
    return list(figure.axes)


def texts(axes: Any) -> set[str]:
    return {text.get_text() for text in axes.texts}


def test_variant_shows_alleles_difference_and_genes() -> None:
    figure = draw_variant(alleles(), GENES)
    ref, difference, second, _, genes = axes_of(figure)
    assert ref.get_title(loc="left") == "Starts, + strand"
    assert ref.get_ylabel() == "signal per 16 bp"
    assert second.get_ylabel() == "log2 signal"
    assert difference.get_ylabel() == "alt − ref"
    assert genes.get_xlabel() == "position on chr1 (bp)"
    # Base 1,001 (1-based) begins at 1,000.5.
    assert genes.get_xlim() == (1000.5, 1480.5)
    assert ref.patches[1].get_data().edges[0] == 1000.5
    assert {"ABC1", "XYZ2"} <= texts(genes)
    assert "FAR3" not in texts(genes)
    assert figure.get_suptitle() == "rs1, chr1:1,250 A>G"
    (legend,) = figure.legends
    assert {text.get_text() for text in legend.texts} == {"reference", "alternate", "difference", "variant"}
    dotted = [line for line in ref.lines if line.get_label() == "variant"]
    assert dotted[0].get_xdata()[0] == 1250


def test_the_difference_is_alternate_less_reference() -> None:
    _, _, _, below = axes_of(draw_variant(alleles()))
    values = below.patches[0].get_data().values
    assert values[15] == pytest.approx(5, abs=1e-5)
    assert np.count_nonzero(np.abs(values) > 1e-5) == 1


def test_tracks_that_change_most_are_chosen_in_their_order() -> None:
    assert strongest_columns(alleles(), 1) == [1]
    assert strongest_columns(alleles(), 5) == [0, 1]


def test_a_part_of_the_window_around_the_variant() -> None:
    part = alleles().within(20)
    assert (part.start, part.end) == (1224, 1272)
    assert len(part.reference) == 3
    assert alleles().within(None).start == 1000
    assert alleles().within(10**6).end == 1480


def test_long_alleles_are_shortened_in_titles() -> None:
    title = variant_title(alleles(".").variant._replace(ref="A" * 40))
    assert title == "chr1:1,250 AAAAAAA…AAAA>G"


def test_region_shows_measured_beside_predicted() -> None:
    one = alleles()
    measured = np.full((30, 2), np.nan)
    measured[:, 1] = 2 * one.reference[:, 1]
    profiles = RegionProfiles("chrX", 0, 16, TRACKS, one.reference, measured)
    assert measured_first(profiles, 1) == [1]
    first, second, third = axes_of(draw_region(profiles, share_y=True))
    assert first.get_ylabel() == "predicted\nsignal per 16 bp"
    assert second.get_ylabel() == "measured\nlog2 signal"
    assert second.get_title(loc="left") == "ATAC, r = 1.000"
    assert second.get_ylim() == third.get_ylim()
    assert third.get_xlabel() == "position on chrX (bp)"


def test_genes_that_overlap_have_lanes_of_their_own() -> None:
    lanes = gene_models.place_in_lanes(GENES, "chr1", 1000, 1480, 6.4)
    assert [(each.gene.name, each.lane) for each in lanes.genes] == [("ABC1", 0), ("XYZ2", 1)]
    assert gene_models.place_in_lanes(GENES, "chr2", 1000, 1480, 6.4).genes == []
    many = [GENES[0]] * (gene_models.MOST_LANES + 2)
    lanes = gene_models.place_in_lanes(many, "chr1", 1000, 1480, 6.4)
    assert lanes.hidden == 2
    axes = style.new_figure(2, 1).subplots()
    gene_models.draw_genes(axes, lanes, 1000, 1480)
    # Beside the genes, whose names fill the lanes.
    assert axes.get_ylabel() == "genes\n(2 more\nnot shown)"


def test_names_stay_within_the_window() -> None:
    (only,) = gene_models.place_in_lanes(GENES[2:], "chr1", 8000, 9010, 6.4).genes
    assert 8000 <= only.left < 9000


def test_letters_have_the_heights_that_are_given() -> None:
    figure = style.new_figure(2, 1)
    axes = figure.subplots()
    draw_logo(axes, np.array([[2.0, 0, 0, 1.0], [0, -1.5, 0, 0]]), first=10)
    outlines = {patch.get_label(): patch.get_path().get_extents() for patch in axes.patches}
    assert set(outlines) == {"A", "C", "T"}
    # The small letter lies on 0, the large one on top of it; a negative one hangs.
    assert (outlines["T"].y0, outlines["T"].y1) == pytest.approx((0, 1))
    assert (outlines["A"].y0, outlines["A"].y1) == pytest.approx((1, 3))
    assert (outlines["C"].y0, outlines["C"].y1) == pytest.approx((-1.5, 0))
    assert 10.5 < outlines["C"].x0 < outlines["C"].x1 < 11.5
    assert axes.get_xlim() == (9.5, 11.5)
    with pytest.raises(ValueError, match="must be"):
        draw_logo(axes, np.zeros((3, 5)))
    with pytest.raises(ValueError, match="finite"):
        draw_logo(axes, np.full((3, 4), np.nan))


def scores() -> ScoreSummary:
    counts = np.zeros((2, 4), dtype=np.int64)
    counts[:, 1:3] = 3
    points = {"chr1": np.array([[100, 0.5], [900, -0.25]]), "chr2": np.zeros((0, 2))}
    strongest = [Strongest("rs7", "chr1", 100, np.array([0.5, np.nan]))]
    contigs = (Contig("chr1", 0, 1000), Contig("chr2", 5, 6))
    return ScoreSummary("logFC", TRACKS, 8, 6, np.linspace(-1, 1, 5), counts, contigs, points, strongest)


def test_scores_have_three_panels() -> None:
    figure = draw_scores(scores(), title="scores.h5")
    distribution, positions, heatmap, bar = axes_of(figure)
    assert distribution.get_xlabel() == "logFC (log2)"
    assert distribution.get_ylabel() == "number of variants"
    assert distribution.get_title(loc="left") == "distribution of 6 variants"
    assert positions.get_xlabel() == "position on chr1 (bp)"
    assert "rs7" in texts(positions)
    assert [label.get_text() for label in heatmap.get_yticklabels()] == ["rs7"]
    assert [label.get_text() for label in heatmap.get_xticklabels()] == ["Starts", "ATAC"]
    assert bar.get_ylabel() == "logFC (log2)"


def test_panels_are_chosen_by_name() -> None:
    assert parse_panels("heatmap, positions") == ("heatmap", "positions")
    for text in ("pie", "heatmap,heatmap"):
        with pytest.raises(ConfigError, match="panels are"):
            parse_panels(text)
    assert len(axes_of(draw_scores(scores(), title="x", panels=("positions",)))) == 1


@pytest.mark.parametrize("suffix", style.SUFFIXES)
def test_equal_pictures_give_equal_files(tmp_path: Path, suffix: str) -> None:
    for name in ("a", "b"):
        (path,) = style.save([draw_variant(alleles(), GENES)], f"{tmp_path}/{name}{suffix}")
    content = Path(path).read_bytes()
    assert content == (tmp_path / f"a{suffix}").read_bytes()
    assert b"CreationDate" not in content
    assert b"<dc:date>" not in content


def test_several_pictures_are_pages_or_numbered(tmp_path: Path) -> None:
    figures = [draw_variant(alleles(), columns=[0]) for _ in range(2)]
    assert style.save(figures, str(tmp_path / "v.pdf")) == [str(tmp_path / "v.pdf")]
    assert (tmp_path / "v.pdf").read_bytes().count(b"/Type /Page ") == 2
    names = style.save(figures, str(tmp_path / "v.png"), dpi=30)
    assert [Path(name).name for name in names] == ["v-1.png", "v-2.png"]
    with pytest.raises(GexprError, match="exists"):
        style.save(figures, str(tmp_path / "v.png"), dpi=30)


def test_other_suffixes_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"\.png, \.svg, \.pdf"):
        style.check_suffix("a.gif")


@pytest.mark.parametrize("suffix", style.SUFFIXES)
def test_letters_that_the_font_lacks_are_told_once(suffix: str, capsys: pytest.CaptureFixture[str]) -> None:
    figure = draw_variant(alleles("雪の変異"), GENES)
    for axes in figure.axes:
        axes.set_title("雪雪")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        style.rendered([figure], suffix)
    told = capsys.readouterr().err
    if suffix != ".svg":  # its letters are text, which the reader's fonts show
        assert told.count("雪") == 1 and "の" in told and "font of pictures lacks" in told
