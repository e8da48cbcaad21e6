"""Input that changes while it is in use: the run stops, names the file, and publishes nothing doubtful.

The change is made in the run's own process, right before a chosen access to a file, so that the
moment is always the same.
"""

from __future__ import annotations

import functools
import inspect
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from chaos_tools import World, at_event, check_parts, run, sha256, unfinished

pytestmark = pytest.mark.chaos


@pytest.fixture
def inputs(world: World, tmp_path: Path) -> Path:
    """Copies of the VCF and the FASTA that may be changed."""
    shutil.copy(world.vcf, tmp_path / "v.vcf")
    shutil.copy(world.folder / "g.fa", tmp_path / "g.fa")
    return tmp_path


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def cut_records(path: Path) -> None:
    """Shorter, but still a whole VCF."""
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:-5]))


def replace(path: Path) -> None:
    """Another file gets the name, as after a download."""
    other = path.with_suffix(".new")
    other.write_text(path.read_text().replace("A", "C"))
    os.replace(other, path)


def delete(path: Path) -> None:
    path.unlink()


CHANGES = [truncate, cut_records, replace, delete]


@pytest.mark.parametrize("name", ["v.vcf", "g.fa"])
@pytest.mark.parametrize("change", CHANGES)
def test_between_two_blocks(
    change: Callable[[Path], None], name: str, inputs: Path, world: World, expected: dict[str, str]
) -> None:
    command = world.score("-o", "out.h5", "--block-rows", "12", "-f", "g.fa", vcf="v.vcf")
    at_fourth = functools.partial(
        at_event, "os.rename", r"\.000003\.part\..*", 0, functools.partial(change, inputs / name)
    )
    result = run(command, inputs, before=at_fourth)
    assert result.code == 1
    how = "the file is gone" if change is delete else "the file was changed while it was in use; start again"
    assert result.error.startswith(f"error: {name}: {how}")
    # The fourth block was computed before the change, the fifth after it.
    assert check_parts(inputs / "out.h5.run") == {0, 1, 2, 3}
    assert not (inputs / "out.h5").exists() and unfinished(inputs) == []
    if change is not delete:
        again = run(command, inputs)
        assert again.code == 1
        assert ("holds a run that differs" in again.error or name in again.error) and again.out == ""
        assert check_parts(inputs / "out.h5.run") == {0, 1, 2, 3}
    # The same bytes, with another time.
    (inputs / name).write_bytes((world.folder / name).read_bytes())
    assert run(command, inputs) == (0, "", "")
    assert sha256(inputs / "out.h5") == expected["h5"] and not (inputs / "out.h5.run").exists()


@pytest.mark.parametrize("reading", [1, 2, 3])
@pytest.mark.parametrize("change", CHANGES)
def test_while_the_run_is_planned(
    change: Callable[[Path], None], reading: int, inputs: Path, world: World, expected: dict[str, str]
) -> None:
    """A VCF is read for its header, its SHA-256 and its records: all must be those of one file.

    A plan that bears the digest of the whole file and the number of rows of a shorter one would
    lose rows in silence once the whole file is back.
    """
    command = world.score("-o", "out.h5", "--block-rows", "12", vcf="v.vcf")
    before = functools.partial(
        at_event, "open", r"v\.vcf", reading, functools.partial(change, inputs / "v.vcf")
    )
    result = run(command, inputs, before=before)
    assert result.code == 1 and result.error.startswith("error: v.vcf: ")
    assert not (inputs / "out.h5.run").exists() and not (inputs / "out.h5").exists()
    (inputs / "v.vcf").write_bytes(world.vcf.read_bytes())
    assert run(command, inputs) == (0, "", "")
    assert sha256(inputs / "out.h5") == expected["h5"]


def cut_during_the_scan(path: str) -> None:
    """In this process: cut the VCF in place, between two records, when the scan has read its first one."""
    from gexpr.variants.vcf import VcfRecord, VcfSource

    original = VcfSource.records

    def records(source: VcfSource) -> Iterator[VcfRecord]:
        for number, record in enumerate(original(source)):
            if number == 1 and inspect.stack()[1].function == "scan":
                size = os.path.getsize(path)
                os.truncate(path, len(b"".join(Path(path).read_bytes().splitlines(keepends=True)[:60])))
                assert os.path.getsize(path) < size
            yield record

    VcfSource.records = records


def test_a_plan_for_a_file_that_is_shorter_than_its_digest_says(
    inputs: Path, world: World, expected: dict[str, str]
) -> None:
    """Records may end early without a fault: the cut is between two lines, behind what is read at a time."""
    records = world.vcf.read_text().splitlines(keepends=True)
    long = [line if line.startswith("#") else line.rstrip("\n") + "X" * 60_000 + "\n" for line in records]
    (inputs / "v.vcf").write_text("".join(long))
    command = world.score("-o", "out.tsv", "--block-rows", "12", vcf="v.vcf")
    before = functools.partial(cut_during_the_scan, str(inputs / "v.vcf"))
    result = run(command, inputs, before=before)
    assert result.code == 1
    assert result.error == "error: v.vcf: the file was changed while it was in use; start again"
    (inputs / "v.vcf").write_text("".join(long))
    assert run(command, inputs) == (0, "", "")
    # A TSV says nothing of the other columns, so that it is that of the short file.
    assert sha256(inputs / "out.tsv") == expected["tsv"]


def test_a_long_vcf_that_is_cut_while_it_is_read(
    inputs: Path, world: World, expected: dict[str, str]
) -> None:
    """The file is longer than what is read at a time, so that the cut shows in the middle of a block."""
    records = world.vcf.read_text().splitlines(keepends=True)
    long = [line if line.startswith("#") else line.rstrip("\n") + "X" * 60_000 + "\n" for line in records]
    (inputs / "v.vcf").write_text("".join(long))
    command = world.score("-o", "out.tsv", "--block-rows", "12", vcf="v.vcf")
    cut = functools.partial(truncate, inputs / "v.vcf")
    before = functools.partial(at_event, "os.rename", r"\.000003\.part\..*", 0, cut)
    result = run(command, inputs, before=before)
    assert result.code == 1 and result.error.startswith("error: v.vcf")
    finished = check_parts(inputs / "out.tsv.run")
    assert finished == {0, 1, 2, 3} and not (inputs / "out.tsv").exists()
    (inputs / "v.vcf").write_text("".join(long))
    assert run(command, inputs) == (0, "", "")
    assert sha256(inputs / "out.tsv") == expected["tsv"]


def test_workers_that_find_another_file(inputs: Path, world: World, expected: dict[str, str]) -> None:
    """Each worker opens the input itself; it computes nothing unless it is the input of the plan."""
    command = world.score("-o", "out.h5", "--block-rows", "12", "--workers", "2", vcf="v.vcf")
    change = functools.partial(cut_records, inputs / "v.vcf")
    before = functools.partial(at_event, "os.remove", r"\.manifest\.json\..*", 0, change)
    result = run(command, inputs, before=before)
    assert result.code == 1
    assert "vcf_sha256" in result.error
    assert check_parts(inputs / "out.h5.run") == set()
    (inputs / "v.vcf").write_bytes(world.vcf.read_bytes())
    assert run(world.score("-o", "out.h5", vcf="v.vcf"), inputs) == (0, "", "")
    assert sha256(inputs / "out.h5") == expected["h5"]


def test_regions_are_read_once(world: World, tmp_path: Path) -> None:
    """A BED file is in memory before the first block; the genome is looked at in every block."""
    shutil.copy(world.bed, tmp_path / "r.bed")
    shutil.copy(world.folder / "g.fa", tmp_path / "g.fa")
    command = world.predict("-o", "out.tsv", "--block-rows", "2", "-f", "g.fa", bed="r.bed")
    for name in ("r.bed", "g.fa"):
        before = functools.partial(
            at_event, "os.rename", r"\.000003\.part\..*", 0, functools.partial(delete, tmp_path / name)
        )
        result = run([*command, "--force"], tmp_path, before=before)
        if name == "r.bed":
            assert result == (0, "", "")
            first = sha256(tmp_path / "out.tsv")
            shutil.copy(world.bed, tmp_path / "r.bed")
        else:
            assert result.code == 1 and result.error.startswith("error: g.fa: the file is gone")
            assert check_parts(tmp_path / "out.tsv.run") == {0, 1, 2, 3}
            assert sha256(tmp_path / "out.tsv") == first
