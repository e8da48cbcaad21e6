"""A fixed sample of the public conformance files through ``gexpr score-variants``; run_corpora.py has all."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from child import Child
from corpus import Finding, corpus_files, examine, write_genome
from toy_models import save_tiny_checkpoint

from gexpr.genome.fasta import Fasta

SAMPLE = 100


@pytest.mark.data
def test_a_sample_of_the_public_files(
    reference_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is scored, with as many rows as ALT alleles, or refused with its name and a place."""
    monkeypatch.setenv("GEXPR_CACHE", str(tmp_path / "cache"))
    checkpoint = save_tiny_checkpoint(tmp_path / "tiny")
    files = corpus_files(reference_data)
    assert len(files) > 1200
    sample = [files[number * len(files) // SAMPLE] for number in range(SAMPLE)]
    with Child() as child:
        found = [examine(path, checkpoint, tmp_path, child) for path in sample]
    assert [f"{each.path}: {fault}" for each in found for fault in each.faults] == []
    outcomes = Counter(each.outcome for each in found)
    assert outcomes["scored"] > 40 and outcomes["refused"] > 20
    assert sum(each.alleles for each in found if each.outcome == "scored") > 50
    # The files without a suffix are what a fuzzer made of VCF files.
    refused = [each.path for each in found if each.outcome == "refused" and each.path.suffix == ".vcf"]
    assert [path for path in refused if "passed" in path.parts] == []


class Fixed:
    """Stands in for a child that gives one answer."""

    def __init__(self, folder: Path, rows: int | None, **answer: object) -> None:
        self.folder, self.rows = folder, rows
        self.answer = {"outcome": "accepted", "exit_code": 0, "stdout": "", "stderr": "", **answer}

    def ask(self, task: str, arguments: list[str]) -> dict[str, object]:
        """The answer, after writing ``rows`` rows of output."""
        if self.rows is not None:
            row = "\t".join("0123456789")
            (self.folder / "out" / "scores.tsv").write_text("\n".join([row] * (self.rows + 1)) + "\n")
        return self.answer


@pytest.mark.parametrize(
    ("rows", "answer", "fault"),
    [
        (3, {}, None),
        (2, {}, "2 rows, the file has 3 ALT alleles"),
        (None, {}, "exit 0, but"),
        (None, {"outcome": "crashed", "message": "exit -11"}, "crashed: exit -11"),
        (None, {"exit_code": 1, "stderr": "error: {path}, line 3: words\n"}, None),
        (None, {"exit_code": 1, "stderr": "error: {path}: words\n"}, "without a place"),
        (None, {"exit_code": 1, "stderr": "error: line 3: words: x\n"}, "exit 1: error: line 3"),
        (None, {"exit_code": 70, "stderr": "error: {path}, line 3: words\n"}, "exit 70"),
        (1, {"exit_code": 1, "stderr": "error: {path}, line 3: words\n"}, "left behind: ['scores.tsv']"),
    ],
)
def test_the_judge(rows: int | None, answer: dict, fault: str | None, tmp_path: Path) -> None:
    """What has gone wrong is found: the sample above can fail."""
    path = tmp_path / "v.vcf"
    path.write_bytes(b"##fileformat=VCFv4.3\n#CHROM\n1\t5\t.\tA\tC,G\n\n2\t7\t.\tAC\tA\n")
    if "stderr" in answer:
        answer = {**answer, "stderr": answer["stderr"].format(path=path)}
    found: Finding = examine(path, tmp_path, tmp_path, Fixed(tmp_path, rows, **answer))  # type: ignore[arg-type]
    assert found.faults == [] if fault is None else found.faults[0].startswith(fault)
    genome = Fasta(tmp_path / "genome.fa", cache_dir=tmp_path / "cache")
    assert genome.fetch("1", 4, 5) == "A" and genome.fetch("2", 6, 8) == "AC"


def test_the_genome_of_a_file_that_no_fasta_can_hold(tmp_path: Path) -> None:
    lines = [
        b"a b\t5\t.\tA\tC",
        b"\t5\t.\tA\tC",
        b"c\t99999999999\t.\tA\tC",
        b"d\t0\t.\tN,\tC",
        b"d\tx",
        b"e",
    ]
    write_genome(b"\n".join(lines), tmp_path / "g.fa")
    genome = Fasta(tmp_path / "g.fa", cache_dir=tmp_path / "cache")
    assert genome.names == ["none", "c", "d"] and max(genome.lengths.values()) < 2000
