"""What a run directory refuses: another run's input and options, damage, gaps, and being somebody else's."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from chaos_tools import SEQUENCE, World, check_parts, run, sha256, unfinished
from toy_models import write_fasta

from gexpr import checkpoints
from gexpr.runs.directory import Manifest

pytestmark = pytest.mark.chaos

BLOCKS = ["--block-rows", "12"]


@pytest.fixture(scope="module")
def finished(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the run directory ``work`` in which every block is finished."""
    folder = tmp_path_factory.mktemp("finished")
    assert run(world.score("--shard", "0/1", "--run-dir", "work", *BLOCKS), folder).code == 0
    return folder


@pytest.fixture
def work(finished: Path, tmp_path: Path) -> Path:
    """A run directory of one's own, with every block finished."""
    return Path(shutil.copytree(finished / "work", tmp_path / "work"))


def state(folder: Path) -> dict[str, bytes]:
    """Everything in a folder but logs and locks."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in files
        if path.relative_to(folder).parts[0] not in ("logs", "locks")
    }


def other_vcf(world: World, folder: Path) -> list[str]:
    lines = world.vcf.read_text().splitlines(keepends=True)
    (folder / "v.vcf").write_text("".join(lines[:-1]))
    return world.score(vcf=folder / "v.vcf")


def other_vcf_name(world: World, folder: Path) -> list[str]:
    shutil.copy(world.vcf, folder / "w.vcf")
    return world.score(vcf=folder / "w.vcf")


def other_fasta(world: World, folder: Path) -> list[str]:
    write_fasta(folder / "g.fa", {"chr1": SEQUENCE + "A"})
    return world.score("-f", str(folder / "g.fa"))


def other_checkpoint(world: World, folder: Path) -> list[str]:
    model = checkpoints.load(world.folder / "tiny", torch.device("cpu"))
    with torch.no_grad():
        next(model.parameters()).mul_(1.5)
    checkpoints.save(folder / "tiny", model, model.tracks, {}, "Another model.")
    return world.score(checkpoint=folder / "tiny")


def options(*arguments: str) -> Callable[[World, Path], list[str]]:
    return lambda world, _folder: world.score(*arguments)


OTHERS: dict[str, tuple[Callable[[World, Path], list[str]], list[str]]] = {
    "VCF content": (other_vcf, ["vcf_sha256 is '"]),
    "VCF name": (other_vcf_name, ["vcf is 'v.vcf' there and 'w.vcf' here"]),
    "FASTA": (other_fasta, ["fasta_digest is '"]),
    "checkpoint": (other_checkpoint, ["checkpoint_sha256 is '"]),
    "statistics": (options("--stats", "SAD"), ["statistics is 'logFC' there and 'SAD' here"]),
    "pseudocount": (options("--pseudocount", "2"), ["pseudocount is 1.0 there and 2.0 here"]),
    "strands": (options("--rc"), ["reverse_complement is False there and True here"]),
    "batch": (options("--batch-size", "4"), ["batch_size is 8 there and 4 here"]),
    "tracks": (options("--tracks", "0,2-3"), ["tracks is '0-3' there and '0,2-3' here"]),
    "order of tracks": (options("--tracks", "1,0,2,3"), ["tracks is '0-3' there and '1,0,2-3' here"]),
    "two things": (
        options("--shifts", "-1,1", "--dtype", "float16"),
        ["dtype is 'float32' there and 'float16' here; ", "shifts is '0' there and '-1,1' here"],
    ),
    "command": (
        lambda world, _folder: world.predict(),
        ["work is a run of gexpr score-variants; give another --run-dir"],
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_another_run(name: str, world: World, expected: dict[str, str], work: Path, tmp_path: Path) -> None:
    """Refused with what differs; the run that is there stays whole, and its own command completes it."""
    make, words = OTHERS[name]
    (work / "parts" / "000007.part").unlink()
    before = state(work)
    command = make(world, tmp_path)
    for given in (["-o", "out.h5"], ["--shard", "1/3"]):
        result = run([*command, *given, "--run-dir", "work"], tmp_path)
        assert result.code == 1
        for word in words:
            assert word in result.error
        if name != "command":
            assert "--restart to discard it" in result.error
        assert state(work) == before and not (tmp_path / "out.h5").exists()
    assert run(world.score("-o", "out.h5", "--run-dir", "work"), tmp_path) == (0, "", "")
    assert sha256(tmp_path / "out.h5") == expected["h5"]


def test_every_option_that_changes_a_number(world: World, work: Path, tmp_path: Path) -> None:
    (tmp_path / "aliases").write_text("one\tchr1\n")
    before = state(work)
    for arguments, name in (
        (["--mask", "center:64"], "mask"),
        (["--average", "scores"], "average"),
        (["--precision", "bf16"], "precision"),
        (["--no-unsquash"], "unsquash"),
        (["--engine", "plain"], "engine"),
        (["--max-offset", "8"], "max_offset"),
        (["--max-allele-length", "10"], "max_allele_length"),
        (["--contig-aliases", "aliases"], "contig_aliases"),
    ):
        result = run(world.score("--run-dir", "work", "--shard", "0/1", *arguments), tmp_path)
        assert result.code == 1 and f"{name} is " in result.error, arguments
    result = run(world.score("--run-dir", "work", "--shard", "0/1", "--max-offset", "4"), tmp_path)
    assert result.code == 1 and "give 0, bin, or 8 and more" in result.error
    assert state(work) == before


def test_another_version(world: World, expected: dict[str, str], work: Path, tmp_path: Path) -> None:
    text = (work / "manifest.json").read_text()
    manifest = Manifest.from_json(text)
    other = manifest._replace(fingerprint={**manifest.fingerprint, "gexpr_version": "0.0.1"})
    (work / "manifest.json").write_text(other.to_json())
    command = world.score("-o", "out.h5", "--run-dir", "work")
    result = run(command, tmp_path)
    assert result.code == 1 and "gexpr_version is '0.0.1' there and '" in result.error
    # Parts do not join a run that is not theirs.
    result = run(["merge", "work", "-o", "out.h5"], tmp_path)
    assert result.code == 1 and "block 0 is damaged" in result.error and "another run" in result.error
    assert not (tmp_path / "out.h5").exists()
    (work / "parts" / "000000.damaged").rename(work / "parts" / "000000.part")
    (work / "manifest.json").write_text(text.replace('"format_version": 1', '"format_version": 99'))
    for arguments in (command, ["merge", "work", "-o", "out.h5"], ["status", "work"]):
        result = run(arguments, tmp_path)
        assert result.code == 1 and "version 99 of the format is not known" in result.error
    (work / "manifest.json").write_text(text)
    assert run(command, tmp_path).code == 0
    assert sha256(tmp_path / "out.h5") == expected["h5"]


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"format": "gexpr run", "format_version": 1}'])
def test_a_damaged_manifest(
    damage: str, world: World, expected: dict[str, str], work: Path, tmp_path: Path
) -> None:
    (work / "manifest.json").write_text(damage)
    command = world.score("-o", "out.h5", "--run-dir", "work")
    result = run(command, tmp_path)
    assert result.code == 1 and "manifest.json: it is damaged: " in result.error
    assert run([*command, "--restart"], tmp_path) == (0, "", "")
    assert sha256(tmp_path / "out.h5") == expected["h5"] and not work.exists()


def test_restart(world: World, expected: dict[str, str], work: Path, tmp_path: Path) -> None:
    command = world.score("-o", "out.tsv", "--run-dir", "work", "--stats", "SAD")
    assert run([*command, "--restart", "--keep-run", *BLOCKS], tmp_path) == (0, "", "")
    assert json.loads((work / "manifest.json").read_text())["fingerprint"]["statistics"] == "SAD"
    assert check_parts(work) == set(range(20))
    assert run(world.score("-o", "plain.tsv", "--stats", "SAD"), tmp_path).code == 0
    assert sha256(tmp_path / "out.tsv") == sha256(tmp_path / "plain.tsv") != expected["tsv"]


def test_restart_is_not_for_a_shard(world: World, work: Path, tmp_path: Path) -> None:
    before = state(work)
    result = run(world.score("--run-dir", "work", "--shard", "0/2", "--restart"), tmp_path)
    assert result.code == 1 and "would discard what the other shards have finished" in result.error
    assert state(work) == before


def test_missing_blocks_are_named(world: World, expected: dict[str, str], work: Path, tmp_path: Path) -> None:
    for block in (3, 11, 12, 13, 19):
        (work / "parts" / f"{block:06d}.part").unlink()
    merge = ["merge", "work", "-o", "out.h5", "--quiet"]
    result = run(merge, tmp_path)
    assert result.code == 1
    assert result.error.startswith("error: work: 5 of 20 blocks are missing: block 3, 11 to 13 and 19; ")
    assert len(check_parts(work)) == 15 and not (tmp_path / "out.h5").exists()
    assert run(world.score("--run-dir", "work", "--shard", "0/1"), tmp_path).code == 0
    assert run(merge, tmp_path) == (0, "", "")
    assert sha256(tmp_path / "out.h5") == expected["h5"]


def flip(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[-100] ^= 4
    path.write_bytes(raw)


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 10)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def swap(path: Path) -> None:
    """Block 8 under the name of block 7: sound, but not what its name says."""
    shutil.copy(path.with_name("000008.part"), path)


@pytest.mark.parametrize("damage", [flip, cut, empty, swap])
@pytest.mark.parametrize("by", ["merge", "the run"])
def test_a_damaged_part(
    damage: Callable[[Path], None],
    by: str,
    world: World,
    expected: dict[str, str],
    work: Path,
    tmp_path: Path,
) -> None:
    """It is named and set aside, and only its block is computed again."""
    damage(work / "parts" / "000007.part")
    others = {name: data for name, data in state(work).items() if "000007" not in name}
    times = {path: path.stat().st_mtime_ns for path in (work / "parts").glob("*.part")}
    if by == "merge":
        result = run(["merge", "work", "-o", "out.h5"], tmp_path)
        assert result.code == 1
        assert "block 7 is damaged" in result.error and "it is now 000007.damaged" in result.error
        assert not (tmp_path / "out.h5").exists() and unfinished(tmp_path) == []
        again = run(["merge", "work", "-o", "out.h5"], tmp_path)
        assert again.code == 1 and "1 of 20 blocks are missing: block 7; " in again.error
    result = run(world.score("-o", "out.h5", "--run-dir", "work", "--keep-run"), tmp_path)
    assert result.code == 0
    if by == "the run":
        assert result.err.startswith("warning: block 7 is computed again: ") and result.err.count("\n") == 1
    assert sha256(tmp_path / "out.h5") == expected["h5"]
    assert (work / "parts" / "000007.damaged").exists() and check_parts(work) == set(range(20))
    now = state(work)
    assert all(now[name] == data for name, data in others.items())
    after = {path: path.stat().st_mtime_ns for path in (work / "parts").glob("*.part")}
    assert {path.name for path in times if times[path] != after[path]} == {"000007.part"}


FOREIGN: dict[str, dict[str, str]] = {
    "a result": {"results.csv": "1,2\n"},
    "a VCF of this name": {"input.vcf": "##fileformat=VCFv4.3\n"},
    "logs of another program": {"logs/today.jsonl": '{"event": "start"}\n'},
    "parts of a book": {"parts/000000.part": "Call me Ishmael.\n"},
    "a web application": {"manifest.json": '{"name": "app"}\n', "logs/x": "", "parts/y": ""},
    "a list": {"manifest.json": "[1, 2]\n"},
    "locks of another program": {"locks/db.lock": "1\n"},
    "hidden files": {".git/config": "[core]\n"},
}


@pytest.mark.parametrize("name", FOREIGN)
def test_a_folder_of_somebody_else(name: str, world: World, tmp_path: Path) -> None:
    """Whatever its files are called, it is refused and nothing in it is touched, restart or not."""
    theirs = tmp_path / "theirs"
    for file, text in FOREIGN[name].items():
        (theirs / file).parent.mkdir(parents=True, exist_ok=True)
        (theirs / file).write_text(text)
    before = sorted((str(path), path.stat().st_mtime_ns) for path in theirs.rglob("*"))
    for arguments in (["-o", "out.h5"], ["-o", "out.h5", "--restart"], ["--shard", "0/2"]):
        result = run(world.score("--run-dir", "theirs", *arguments), tmp_path)
        assert result.code == 1
        first = sorted(FOREIGN[name])[0].split("/")[0]
        assert f"theirs is not a run directory: it holds '{first}'" in result.error
    result = run(["merge", "theirs", "-o", "out.h5"], tmp_path)
    assert result.code == 1 and "theirs" in result.error
    assert sorted((str(path), path.stat().st_mtime_ns) for path in theirs.rglob("*")) == before
    assert not (tmp_path / "out.h5").exists()


def test_a_folder_that_is_empty_is_used(world: World, expected: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    assert run(world.score("-o", "out.h5", "--run-dir", "work"), tmp_path) == (0, "", "")
    assert sha256(tmp_path / "out.h5") == expected["h5"]


def test_other_files_in_a_run_directory_survive(
    world: World, expected: dict[str, str], work: Path, tmp_path: Path
) -> None:
    (work / "notes.txt").write_text("Tuesday: started")
    assert run(world.score("-o", "out.h5", "--run-dir", "work"), tmp_path) == (0, "", "")
    assert sha256(tmp_path / "out.h5") == expected["h5"]
    assert os.listdir(work) == ["notes.txt"]


def test_an_existing_output(world: World, expected: dict[str, str], work: Path, tmp_path: Path) -> None:
    (tmp_path / "out.h5").write_text("precious")
    before = state(work)
    merge = ["merge", "work", "-o", "out.h5", "--quiet"]
    for command in (world.score("--run-dir", "work", "-o", "out.h5"), merge):
        result = run(command, tmp_path)
        assert (result.code, result.error) == (
            1,
            "error: out.h5 exists; give --force to replace it, or another name",
        )
        assert (tmp_path / "out.h5").read_text() == "precious" and state(work) == before
    assert run([*merge, "--force"], tmp_path) == (0, "", "")
    assert sha256(tmp_path / "out.h5") == expected["h5"]


@pytest.mark.parametrize("how", ["itself", "hard link", "symbolic link"])
@pytest.mark.parametrize("name", ["v.vcf", "g.fa", "tiny/model.safetensors"])
def test_an_output_that_is_an_input(how: str, name: str, world: World, tmp_path: Path) -> None:
    """Not even with --force."""
    for each in ("v.vcf", "g.fa"):
        shutil.copy(world.folder / each, tmp_path / each)
    shutil.copytree(world.folder / "tiny", tmp_path / "tiny")
    before = (tmp_path / name).read_bytes()
    output = tmp_path / name
    if how != "itself":
        output = tmp_path / "out.h5"
        link = os.link if how == "hard link" else os.symlink
        link(tmp_path / name, output)
    arguments = ["-c", "tiny", "-f", "g.fa", "-o", str(output), "--format", "hdf5", "--force"]
    for command in (world.score(*arguments, vcf="v.vcf"), world.predict(*arguments)):
        if name == "v.vcf" and "predict" in command:
            command = world.predict(*arguments, bed="v.vcf")
        result = run(command, tmp_path)
        assert result.code == 1
        assert result.error.startswith(f"error: the output {output} is also an input (")
        assert (tmp_path / name).read_bytes() == before and not list(tmp_path.glob("*.run"))


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("work", "the output and the run directory are both work"),
        ("work/out.h5", "the output work/out.h5 lies in the run directory work, which is removed in the end"),
        ("work/parts/000003.part", "lies in the run directory work"),
        ("work/manifest.json", "work/manifest.json"),
    ],
)
def test_an_output_in_the_run_directory(
    output: str, words: str, world: World, work: Path, tmp_path: Path
) -> None:
    """It would be removed with the rest."""
    before = state(work)
    for command in (["merge", "work", "--quiet"], world.score("--run-dir", "work")):
        result = run([*command, "-o", output, "--format", "hdf5", "--force"], tmp_path)
        assert result.code == 1 and words in result.error
        assert state(work) == before
