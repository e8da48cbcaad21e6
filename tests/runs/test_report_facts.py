"""What a report is made of: counts against plain ones, and the command that makes scores again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gexpr.genome import examples
from gexpr.genome.fasta import Fasta
from gexpr.results import Track, Variant
from gexpr.runs.again import base_statistics, command_again, member_names, option_values
from gexpr.writers.output import AtomicOutput
from gexpr.writers.score_file import ScoreFile
from gexpr.writers.score_report import kind_of, overview
from gexpr.writers.scores import ScoreSchema, open_writer


@pytest.mark.parametrize(
    ("ref", "alt", "kind"),
    [
        ("A", "C", "substitution"),
        ("a", "G", "substitution"),
        ("A", "AT", "insertion"),
        ("CA", "CTA", "insertion"),
        ("ATG", "A", "deletion"),
        ("ATG", "G", "deletion"),
        ("ATTG", "ATG", "deletion"),
        ("AC", "GT", "other"),
        ("ACG", "TT", "other"),
        ("A", "<DEL>", "other"),
        ("A", "*", "other"),
        ("A", ".", "other"),
    ],
)
def test_kinds_of_alleles(ref: str, alt: str, kind: str) -> None:
    assert kind_of(ref, alt) == kind


@pytest.mark.parametrize("block_rows", [7, 65_536])
def test_counts_are_those_of_the_whole_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block_rows: int
) -> None:
    monkeypatch.setattr("gexpr.writers.score_file._BLOCK_ROWS", block_rows)
    generator = np.random.default_rng(2)
    scores = generator.normal(size=(300, 3)).astype(np.float32)
    scores[generator.random(scores.shape) < 0.3] = np.nan
    scores[:, 2] = np.nan
    statuses = ["ok" if row % 4 else "too_long" for row in range(300)]
    rows = [Variant(i, 0, f"chr{i % 5}", i + 1, ".", "A", "C", statuses[i]) for i in range(300)]
    tracks = tuple(Track(i, f"t{i}", "") for i in range(3))
    with AtomicOutput(str(tmp_path / "a.h5")) as output:
        writer = open_writer(output, "hdf5", ScoreSchema(tracks, ("SAD",), {"statistics": "SAD"}))
        writer.write(rows, {"SAD": scores})
        writer.commit()
    kept = np.arange(300) % 3 > 0
    with ScoreFile(tmp_path / "a.h5") as file:
        blocks = [(start, end, kept[start:end]) for start, end in file.blocks()]
        found = overview(file, "SAD", [1, 2, 0], blocks)
    own = scores[kept].astype(np.float64)
    assert (found.rows, found.contigs, found.kinds) == (200, 5, {"substitution": 200})
    assert found.scored == np.isfinite(own).any(axis=1).sum()
    assert found.statuses == {"ok": 150, "too_long": 50}
    first, empty, last = found.tracks
    assert [each.track.id for each in found.tracks] == ["t1", "t2", "t0"]
    assert empty.scored == 0 and np.isnan([empty.rms, empty.lowest, empty.highest]).all()
    for each, column in ((first, 1), (last, 0)):
        values = own[np.isfinite(own[:, column]), column]
        assert each.scored == len(values)
        assert (each.lowest, each.highest) == (values.min(), values.max())
        np.testing.assert_allclose(each.rms, np.sqrt((values**2).mean()), rtol=1e-12)


BASE = {"checkpoint": "net", "fasta": "g.fa", "vcf": "v.vcf", "tracks": "0-3", "statistics": "logFC"}


def again(**attributes: str | int | float | bool) -> tuple[str, list[str]]:
    command, notes = command_again({**BASE, **attributes}, "s.h5")
    return " ".join(command), notes


def test_defaults_are_left_out() -> None:
    plain = "gexpr score-variants -c net -f g.fa -o s.h5 -t 0-3 --stats logFC v.vcf"
    assert again() == (plain, [])
    defaults = {
        "pseudocount": 1.0,
        "mask": "all",
        "shifts": "0",
        "unsquash": True,
        "phased": False,
        "symbolic": False,
    }
    assert again(**defaults, device="cpu", dtype="float32", contig_aliases="", aggregate="none") == (
        plain,
        [],
    )


@pytest.mark.parametrize(
    ("attributes", "words", "note"),
    [
        ({"checkpoint": "a,b", "ensemble_size": 2}, "-c a -c b -f", ""),
        ({"checkpoint": "a,b"}, "-c a,b -f", ""),
        (
            {"statistics": "logFC,SAD,logFC_quantile,SAD_quantile", "background": "b.h5"},
            "--background b.h5",
            "",
        ),
        (
            {"statistics": "SAX,SAX_marginal,SAX_joint", "phased": True, "samples": "s1,s2"},
            "--stats SAX --samples s1,s2 --phased",
            "",
        ),
        ({"shifts": "-1,0,1", "reverse_complement": False}, "--shifts=-1,0,1 --no-rc", ""),
        ({"device": "cuda (NVIDIA X)"}, "--device cuda v.vcf", "other devices differ"),
        ({"vcf": "standard input"}, "logFC -", "standard input"),
        ({"tracks": "70 tracks, SHA-256 0a"}, "-o s.h5 --stats", "chosen with --tracks"),
        ({"aggregate": "assay"}, "--aggregate assay", "another order"),
        ({"contig_aliases": "1=chrI"}, "v.vcf", "--contig-aliases"),
        ({"exported": "rows with status ok"}, "v.vcf", "rows with status ok"),
        ({"auto_batch_sizes": "2,4"}, "--auto-batch", "sizes 2,4"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_settings_and_what_they_cannot_tell(
    attributes: dict[str, str | int | bool], words: str, note: str
) -> None:
    command, notes = again(**attributes)
    assert words in command
    assert bool(notes) == bool(note)
    assert all(note in each for each in notes[:1])


def test_the_example_is_known_by_its_contents(tmp_path: Path) -> None:
    packaged = examples.resolve_fasta("example")
    digest = Fasta(packaged, cache_dir=tmp_path).digest()
    assert "-f example " in again(fasta="chrI.fa.gz", fasta_digest=digest)[0]
    assert "-f chrI.fa.gz " in again(fasta="chrI.fa.gz", fasta_digest="0" * 64)[0]
    assert again(vcf="chrI_promoters.vcf.gz", vcf_sha256="0" * 64)[0].endswith(" chrI_promoters.vcf.gz")


def test_words_of_commands() -> None:
    command = ["gexpr", "score-variants", "-c", "a", "-cb", "--checkpoint=c,d", "--checkpoint", "e", "-f"]
    assert option_values(command, "-c", "--checkpoint") == ["a", "b", "c,d", "e"]
    assert option_values(command, "-f", "--fasta") == []
    assert base_statistics("logFC,logFC_quantile,D1") == ["logFC", "D1"]
    assert member_names({}) == ["unknown"]
