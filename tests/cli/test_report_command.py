"""``gexpr report``: what a page holds, what is looked for and found, and what is refused."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from click.testing import CliRunner, Result
from hostile_scores import ATTACK, QUOTES, Page, write_hostile_scores
from toy_models import save_tiny_checkpoint, write_fasta, write_vcf

from gexpr.cli.main import main
from gexpr.report.score_page import STATUS_ADVICE
from gexpr.results import Track, Variant
from gexpr.variants.alleles import STATUSES
from gexpr.variants.genotypes import PHASED_STATUS_MEANINGS
from gexpr.writers.output import AtomicOutput
from gexpr.writers.scores import ScoreSchema, open_writer

pytest.importorskip("matplotlib")
SEQUENCE = "".join("ACGT"[number] for number in np.random.default_rng(4).integers(0, 4, 2000))
ALT = {"A": "C", "C": "G", "G": "T", "T": "A"}
SETTINGS = (
    "--stats SAD,logFC --pseudocount 0.5 --mask center:100 --shifts=-1,0 --no-rc -t 0-2 --dtype float16"
)


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(main, list(map(str, arguments)))


def report(*arguments: object) -> Page:
    """The page that a call writes to standard output."""
    result = invoke("report", *arguments, "-o", "-")
    assert result.exit_code == 0, result.output
    return Page(result.stdout)


def numbers(page: Page) -> dict[str, object]:
    """What a page says for programs."""
    (content,) = (text for attributes, text in page.scripts if attributes.get("id") == "report-data")
    found: dict[str, object] = json.loads(content)
    return found


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint, a genome, a VCF and their scores, made with settings that are not the defaults."""
    folder = tmp_path_factory.mktemp("report")
    save_tiny_checkpoint(folder / "net")
    write_fasta(folder / "g.fa", {"chr1": SEQUENCE})
    records = [("1", 900 + i, f"v{i}", SEQUENCE[899 + i], ALT[SEQUENCE[899 + i]]) for i in range(5)]
    records.append(("1", 950, "sv", SEQUENCE[949], "<DEL>"))
    write_vcf(folder / "v.vcf", records)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["/somewhere/gexpr", "score-variants", "v.vcf", "--keep-run"])
        result = invoke(
            "score-variants",
            "v.vcf",
            "-c",
            "net",
            "-f",
            "g.fa",
            "-o",
            "s.h5",
            *SETTINGS.split(),
            "--keep-run",
        )
    assert result.exit_code == 0, result.output
    return folder


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    return write_hostile_scores(tmp_path / "hostile.h5")


def test_the_table_is_that_of_top(run: Path) -> None:
    for options in (
        (),
        ("--by", "down", "--stat", "logFC", "-n", "3", "-r", "chr1:900-903", "-t", "count_C"),
    ):
        page = report(run / "s.h5", "--pictures", 0, *options)
        top = invoke("top", run / "s.h5", "--overall", "-n", "100", *options).stdout.splitlines()
        head, *lines = (line.split("\t") for line in top)
        named = [dict(zip(head, line, strict=True)) for line in lines]
        shown, *rows = page.tables["top-table"]
        statistic = named[0]["statistic"]
        found = [dict(zip(shown, row, strict=True)) for row in rows]
        assert len(found) == len(named) > 0
        for row, line in zip(found, named, strict=True):
            assert row[statistic] == line["score"]
            for name in ("rank", "track_id", "track_label", "chrom", "pos", "id", "ref", "alt"):
                assert row[name] == line[name]
        (other,) = {"SAD", "logFC"} - {statistic}
        assert all(np.isfinite(float(row[other])) for row in found)


def test_pictures_card_and_commands_are_found_in_the_kept_run(run: Path, tmp_path: Path) -> None:
    page = report(run / "s.h5", "--pictures", 2, "--max-tracks", 2, "--flank", 100)
    images = [values for tag, values in page.elements if tag == "img"]
    assert [str(each["src"])[:16] for each in images].count("data:image/png;b") == 2
    assert {"variant-1", "variant-2"} <= set(page.attributes("id"))
    assert [link for link in page.attributes("href") if link.startswith("#variant-")] == [
        "#variant-1",
        "#variant-2",
    ]
    assert "A model without training, for tests." in page.texts
    assert "gexpr score-variants v.vcf --keep-run" in page.texts
    assert "6 records in the VCF" in page.texts and "Computing time" in page.texts
    assert ["symbolic_alt", "1"] == page.tables["status-table"][2][:2]


def test_the_command_of_the_scores_makes_the_same_bytes(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = report(run / "s.h5", "--pictures", 0)
    (command,) = (each for each in page.commands if each.startswith("gexpr score-variants -c"))
    size = re.search(r"--batch-size (\d+)", command)
    assert size is not None
    assert command == (
        "gexpr score-variants -c net -f g.fa -o s.h5 -t 0-2 --stats SAD,logFC --pseudocount 0.5 "
        f"--mask center:100 --shifts=-1,0 --max-allele-length 175 --batch-size {size[1]} "
        "--no-rc --dtype float16 v.vcf"
    )
    for name in ("net", "g.fa", "v.vcf"):
        (tmp_path / name).symlink_to(run / name)
    monkeypatch.chdir(tmp_path)
    result = invoke(*command.split()[1:])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "s.h5").read_bytes() == (run / "s.h5").read_bytes()


def test_without_model_and_genome_the_page_says_so(run: Path, tmp_path: Path) -> None:
    shutil.copy(run / "s.h5", tmp_path / "alone.h5")
    page = report(tmp_path / "alone.h5")
    assert "There are no pictures of single variants here:" in page.texts
    assert "The checkpoint net was not found; --checkpoint says where it is." in page.texts
    assert "The genome g.fa was not found; --fasta says where it is." in page.texts
    assert not [link for link in page.attributes("href") if link.startswith("#variant-")]
    # With the two named, they are used.
    page = report(tmp_path / "alone.h5", "-c", run / "net", "-f", run / "g.fa", "--pictures", 1)
    assert "variant-1" in page.attributes("id")
    assert "is not recorded" in page.texts


def test_another_model_genome_or_run_is_refused(run: Path, tmp_path: Path) -> None:
    save_tiny_checkpoint(tmp_path / "other", seed=5)
    write_fasta(tmp_path / "other.fa", {"chr1": SEQUENCE[::-1]})
    for options, message in (
        (("-c", tmp_path / "other"), "not the checkpoint that made the scores (net)"),
        (("-c", f"{run / 'net'},{tmp_path / 'other'}"), "2 checkpoint(s) given, but 1 made"),
        (("-f", tmp_path / "other.fa"), "not the genome that made the scores (g.fa)"),
        (("--run-dir", tmp_path), "not a run directory"),
    ):
        result = invoke("report", run / "s.h5", "-o", tmp_path / "r.html", *options)
        assert result.exit_code == 1
        assert message in result.stderr
    assert not (tmp_path / "r.html").exists()


def test_stored_predictions_need_no_model(tmp_path: Path) -> None:
    tracks = (Track(0, "a", "Track A"), Track(1, "b", "Track B"))
    row = Variant(0, 0, "chr1", 100, "rs1", "A", "C", "ok")
    profile = np.arange(6, dtype=np.float32).reshape(1, 3, 2)
    with AtomicOutput(str(tmp_path / "p.h5")) as output:
        attributes = {"statistics": "SAD", "model_bin_size": 16, "checkpoint": "gone", "profile": 3}
        writer = open_writer(output, "hdf5", ScoreSchema(tracks, ("SAD",), attributes, profile=3))
        scores = {
            "SAD": np.float32([[3, 1]]),
            "REF": profile,
            "ALT": profile + 1,
            "profile_start": np.array([80]),
        }
        writer.write([row], scores)
        writer.commit()
    page = report(tmp_path / "p.h5")
    assert "variant-1" in page.attributes("id")
    assert "These predictions are stored in the file of scores." in page.texts
    assert "--profiles center:3" in page.texts


def test_every_text_is_escaped_and_nothing_is_loaded(hostile: Path) -> None:
    page = report(hostile, "--title", ATTACK)
    tags = [tag for tag, _ in page.elements]
    assert tags.count("script") == 2  # numbers for programs, and the page's own
    # Text inside a cell, not markup: complete, though it looks like the end of a script.
    cells = page.tables["top-table"]
    assert {row[2] for row in cells[1:]} == {ATTACK, QUOTES, ".", "in<b>bold</b>"}
    assert {f"s{row}{ATTACK}" for row in range(4)} == {row[-1] for row in cells[1:]}
    assert "a\ufffdb\ufffd[31mc\ufffdd" in {row[1] for row in page.tables["track-table"]}
    assert f"odd{ATTACK}" in {row[0] for row in page.tables["status-table"]}
    assert not {
        name for _, values in page.elements for name in values if name.startswith("on") or name == "style"
    }
    for name in ("src", "href"):
        assert all(value.startswith(("data:", "#")) for value in page.attributes(name)), name
    for tag in ("iframe", "object", "embed", "base", "form", "a"):
        assert tags.count(tag) == (
            sum(link.startswith("#") for link in page.attributes("href")) if tag == "a" else 0
        )
    told = numbers(page)
    assert told["attributes"]["vcf"] == ATTACK  # type: ignore[index]
    assert [row["score"] for row in told["top"]] == [10.5, 3.0, -2.0, -0.5]  # type: ignore[attr-defined, index]
    assert told["statuses"] == {"ok": 4, "symbolic_alt": 1, f"odd{ATTACK}": 1}


def test_equal_inputs_give_equal_bytes_and_no_time(run: Path, tmp_path: Path) -> None:
    shutil.copy(run / "s.h5", tmp_path / "s.h5")
    call = ("report", tmp_path / "s.h5", "-o", "-", "--pictures", 1, "-c", run / "net", "-f", run / "g.fa")
    first, second = invoke(*call), invoke(*call)
    assert first.exit_code == 0 and first.stdout_bytes == second.stdout_bytes
    assert not re.search(r"20\d\d-\d\d-\d\d", Page(first.stdout).texts)


def test_the_command_of_the_page_is_as_typed(hostile: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/somewhere/bin/gexpr", "report", "my scores.h5", "-o", "</pre>"])
    assert "gexpr report 'my scores.h5' -o '</pre>'" in report(hostile, "--pictures", 0).texts


def test_the_size_depends_on_the_table_and_not_on_the_rows(tmp_path: Path) -> None:
    rows = 50_000
    tracks = (Track(0, "a", "Track A"),)
    alleles = [Variant(row, 0, "chr1", row + 1, f"rs{row}", "A", "C", "ok") for row in range(rows)]
    scores = np.random.default_rng(1).normal(size=(rows, 1)).astype(np.float32)
    with AtomicOutput(str(tmp_path / "many.h5")) as output:
        writer = open_writer(output, "hdf5", ScoreSchema(tracks, ("logFC",), {"statistics": "logFC"}))
        writer.write(alleles, {"logFC": scores})
        writer.commit()
    sizes = []
    for count in (10, 1000):
        result = invoke("report", tmp_path / "many.h5", "-o", "-", "--pictures", 0, "-n", count)
        assert result.exit_code == 0, result.output
        assert len(Page(result.stdout).tables["top-table"]) == count + 1
        sizes.append(len(result.stdout_bytes))
    # About half a kilobyte a row, as HTML and once more for programs; pictures take the rest.
    assert sizes[0] < 1_000_000
    assert sizes[1] - sizes[0] < 990 * 700


def test_a_file_without_scores_has_statuses(tmp_path: Path) -> None:
    path = tmp_path / "none.h5"
    row = Variant(0, 0, "chr1", 7, "rs1", "A", "<DEL>", "symbolic_alt")
    for rows in ([row], []):
        with AtomicOutput(str(path), force=True) as output:
            schema = ScoreSchema((Track(0, "a", "A"),), ("logFC",), {"statistics": "logFC"})
            writer = open_writer(output, "hdf5", schema)
            if rows:
                writer.write(rows, {"logFC": np.full((1, 1), np.nan, dtype=np.float32)})
            writer.commit()
        page = report(path)
        assert "No row has a score." in page.texts
        assert "top-table" not in page.tables
        assert ("symbolic_alt" in page.texts) == bool(rows)


def test_outputs(hostile: Path, tmp_path: Path) -> None:
    out = tmp_path / "r.html"
    result = invoke("report", hostile, "-o", out, "--pictures", 0)
    assert result.exit_code == 0 and f"written to {out}" in result.stderr
    before = out.read_bytes()
    result = invoke("report", hostile, "-o", out, "--pictures", 0, "--title", "new")
    assert result.exit_code == 1 and "give --force" in result.stderr
    assert out.read_bytes() == before
    assert (
        invoke("report", hostile, "-o", out, "--pictures", 0, "--title", "new", "--force", "-q").exit_code
        == 0
    )
    assert out.read_bytes() != before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hostile.h5", "r.html"]


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        ((), 2, "Missing option '--output'"),
        (("-o", "r.pdf"), 1, "a report is a page of HTML"),
        (("-o", "r.html", "-n", "0"), 2, "'--top'"),
        (("-o", "r.html", "--stat", "JS"), 1, "has no JS"),
        (("-o", "r.html", "-r", "chr77"), 1, "no row lies on chr77"),
        (("-o", "no/such/r.html"), 1, "does not exist"),
    ],
    ids=["output", "suffix", "top", "statistic", "region", "folder"],
)
def test_refusals(
    hostile: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[str, ...],
    code: int,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    result = invoke("report", hostile, *options)
    assert result.exit_code == code
    assert message in result.stderr
    assert not (tmp_path / "r.html").exists()


@pytest.mark.parametrize("name", ["s.tsv", "s.parquet", "genes.h5"])
def test_other_files_are_refused_by_name(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name.endswith(".h5"):
        import h5py

        with h5py.File(path, "w") as file:
            file.attrs["format"] = "gexpr gene scores"
    else:
        path.write_bytes(b"PAR1" if "parquet" in name else b"chrom\tpos\n")
    result = invoke("report", path, "-o", tmp_path / "r.html")
    assert result.exit_code == 1
    expected = (
        "it holds 'gexpr gene scores'" if name.endswith(".h5") else "scores in HDF5, as 'gexpr score-variants"
    )
    assert str(path) in result.stderr and expected in result.stderr


def test_matplotlib_is_asked_for_before_the_work(hostile: Path, tmp_path: Path) -> None:
    with mock.patch.dict(sys.modules, {"matplotlib": None}):
        result = invoke("report", hostile, "-o", tmp_path / "r.html")
    assert result.exit_code == 1 and "gexpr[plot]" in result.stderr
    assert not (tmp_path / "r.html").exists()


def test_every_status_has_advice() -> None:
    assert set(STATUS_ADVICE) == {*STATUSES, *PHASED_STATUS_MEANINGS}
