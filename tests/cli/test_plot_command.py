"""``gexpr plot``: what is read and computed for each picture, and what is refused."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from click.testing import CliRunner, Result
from toy_models import save_tiny_checkpoint, write_fasta, write_vcf

from gexpr.cli.main import main
from gexpr.results import Track, Variant
from gexpr.writers.output import AtomicOutput
from gexpr.writers.score_file import ScoreFile
from gexpr.writers.score_summary import summarize
from gexpr.writers.scores import ScoreSchema, open_writer

SEQUENCE = "".join("ACGT"[number] for number in np.random.default_rng(4).integers(0, 4, 3000))
ALT = {"A": "C", "C": "G", "G": "T", "T": "A"}


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["plot", *map(str, arguments)])


def text_of(path: Path) -> str:
    return " ".join(
        "".join(each.itertext()) for each in ElementTree.parse(path).iter() if each.tag.endswith("}text")
    )


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint, a genome, a VCF, genes and a bedGraph of ones."""
    folder = tmp_path_factory.mktemp("plot")
    save_tiny_checkpoint(folder / "net")
    write_fasta(folder / "g.fa", {"chr1": SEQUENCE})
    records = [("1", 1500 + i, f"v{i}", SEQUENCE[1499 + i], ALT[SEQUENCE[1499 + i]]) for i in range(2)]
    write_vcf(folder / "v.vcf", records)
    (folder / "genes.bed").write_text("1\t1450\t1600\tGENE1\t0\t+\n")
    (folder / "m.bedGraph").write_text("chr1\t0\t3000\t1\n")
    return folder


@pytest.fixture
def scores(tmp_path: Path) -> Path:
    """Three alleles, one without a score, two tracks, profiles of three bins."""
    path = tmp_path / "scores.h5"
    tracks = (Track(0, "a", "Track A"), Track(1, "b", "Track B"))
    variants = [
        Variant(0, 0, "chr1", 7, "rs1", "A", "C", "ok"),
        Variant(1, 0, "chr1", 90, "rs2", "T", "A", "ref_mismatch"),
        Variant(2, 0, "chr2", 9, ".", "AT", "A", "ok"),
    ]
    profile = np.arange(18, dtype=np.float32).reshape(3, 3, 2)
    with AtomicOutput(str(path)) as output:
        attributes = {"statistics": "logFC", "model_bin_size": 4}
        writer = open_writer(output, "hdf5", ScoreSchema(tracks, ("logFC",), attributes, profile=3))
        values = np.float32([[0.1, -2], [np.nan, np.nan], [-0.5, 1]])
        starts = np.array([0, -1, 4])
        writer.write(variants, {"logFC": values, "REF": profile, "ALT": profile + 1, "profile_start": starts})
        writer.commit()
    return path


def test_a_variant_of_a_vcf_with_genes(inputs: Path, tmp_path: Path) -> None:
    out = tmp_path / "v.svg"
    result = invoke(
        *("variant", "-c", inputs / "net", "-f", inputs / "g.fa", "--vcf", inputs / "v.vcf", "--id", "v1"),
        *("--max-tracks", 2, "--flank", 100, "-g", inputs / "genes.bed", "-o", out),
    )
    assert result.exit_code == 0, result.output
    text = text_of(out)
    assert f"v1, 1:1,501 {SEQUENCE[1500]}>{ALT[SEQUENCE[1500]]}" in text
    assert "GENE1" in text
    assert "position on 1 (bp)" in text
    assert text.count("alt − ref") == 2
    assert "the 2 of 4 tracks" in result.output


def test_a_variant_of_a_score_file_needs_no_model(
    scores: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Defaults are passed over, not taken for what was asked.
    monkeypatch.setenv("GEXPR_CHECKPOINT", "none")
    monkeypatch.setenv("GEXPR_FASTA", "none.fa")
    out = tmp_path / "p.svg"
    result = invoke("variant", "--profiles", scores, "--id", "rs1", "-t", "b", "-o", out)
    assert result.exit_code == 0, result.output
    assert "rs1, chr1:7 A>C" in text_of(out)
    assert "Track B" in text_of(out)
    result = invoke("variant", "--profiles", scores, "chr2:9:AT:A", "-o", tmp_path / "q.png")
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["variant", "chr1:7:A:C", "-o", "a.png"], "Give --checkpoint and --fasta"),
        (["variant", "-c", "x", "-f", "y", "-o", "a.png"], "Give variants"),
        (["variant", "-c", "x", "-f", "y", "--id", "z", "-o", "a.png"], "--id needs"),
        (["variant", "-c", "x", "-f", "y", "chr1:7", "-o", "a.png"], "is not a variant"),
        (["variant", "-c", "x", "-f", "y", "chr1:7:A:C", "-o", "a.gif"], "pictures are"),
        (["region", "-c", "x", "-f", "y", "-r", "1:9-2", "-o", "a.png"], "ends before"),
        (["scores", "s.h5", "--panels", "pie", "-o", "a.png"], "panels are"),
    ],
)
def test_what_is_refused(arguments: list[str], message: str) -> None:
    result = invoke(*arguments)
    assert result.exit_code in (1, 2)
    assert message in result.output


def test_rows_that_are_not_there_are_named(scores: Path, tmp_path: Path) -> None:
    for name, message in (("rs9", "no row is rs9"), ("rs2", "was not scored: ref_mismatch")):
        result = invoke("variant", "--profiles", scores, "--id", name, "-o", tmp_path / "x.png")
        assert result.exit_code == 1
        assert message in result.output


def test_a_region_with_measurements(inputs: Path, tmp_path: Path) -> None:
    out = tmp_path / "r.svg"
    result = invoke(
        *("region", "-c", inputs / "net", "-f", inputs / "g.fa", "-r", "chr1:1,001-1,155"),
        *("-t", "count_A,count_C", "-m", f"count_C={inputs / 'm.bedGraph'}", "-o", out),
    )
    assert result.exit_code == 0, result.output
    text = text_of(out)
    assert "chr1:1,001–1,155" in text  # the bins reach past it
    assert text.count("measured") == 1
    assert text.count("predicted") == 2
    result = invoke(
        *("region", "-c", inputs / "net", "-f", inputs / "g.fa", "-r", "chr1:1-90", "-o", out, "--force"),
        *("-m", inputs / "m.bedGraph"),
    )
    assert result.exit_code == 1
    assert "is for 4 tracks; write TRACK=" in result.output


def test_scores_are_drawn_from_the_file(scores: Path, tmp_path: Path) -> None:
    out = tmp_path / "s.svg"
    result = invoke("scores", scores, "-o", out)
    assert result.exit_code == 0, result.output
    text = text_of(out)
    assert "distribution of 2 variants" in text
    assert "rs1" in text
    assert "position on chr1 (bp)" in text


def test_a_summary_counts_every_score_and_keeps_the_strongest(scores: Path) -> None:
    with ScoreFile(scores) as file:
        every = [(0, 1, np.array([True])), (1, 3, np.array([True, True]))]
        found = summarize(file, "logFC", [0, 1], lambda: every, [2])
        assert file.profiles(2)[2] == 4
        np.testing.assert_array_equal(file.profiles(2)[0], [[12, 13], [14, 15], [16, 17]])
    assert (found.rows, found.scored) == (3, 2)
    assert found.counts.sum(axis=1).tolist() == [2, 2]
    assert [contig.name for contig in found.contigs] == ["chr1", "chr2"]
    assert found.points["chr1"].tolist() == [[7, -2]]
    assert found.points["chr2"].tolist() == [[9, 1]]
    (row,) = found.strongest
    assert (row.name, row.scores.tolist()) == ("chr2:9 AT>A", [-0.5, 1])
    # The strongest loss lies in the first bin, the gain of 1 in that of its size.
    assert found.counts[1, 0] == 1
    assert found.counts[1, np.searchsorted(found.edges, 1, side="right") - 1] == 1
