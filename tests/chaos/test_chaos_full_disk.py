"""A file system without room: one clear line, finished blocks stay, and with room the rerun completes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from chaos_tools import World, check_parts, run, sha256, unfinished

pytestmark = pytest.mark.chaos

FULL = "No space left on device"


def fill(disk: Path, room: int) -> None:
    """Leave ``room`` bytes."""
    status = os.statvfs(disk)
    with open(disk / "filler", "wb") as file:
        os.posix_fallocate(file.fileno(), 0, status.f_bavail * status.f_frsize - room)


def make_room(disk: Path) -> None:
    (disk / "filler").unlink()


def test_no_room_for_a_block(disk: Path, world: World, expected: dict[str, str], tmp_path: Path) -> None:
    command = world.score("-o", str(disk / "out.h5"), "--block-rows", "12")
    fill(disk, 60 << 10)
    result = run(command, tmp_path)
    assert result.code == 1
    finished = check_parts(disk / "out.h5.run")
    assert 0 < len(finished) < 20 and finished == set(range(len(finished)))
    path = disk / "out.h5.run" / "parts" / f"{len(finished):06d}.part"
    assert result.error == f"error: cannot write {path}: {FULL}"
    assert not (disk / "out.h5").exists() and unfinished(disk) == []
    again = run(command, tmp_path)
    assert again.code == 1 and FULL in again.error and check_parts(disk / "out.h5.run") >= finished
    make_room(disk)
    assert run(command, tmp_path) == (0, "", "")
    assert sha256(disk / "out.h5") == expected["h5"]
    assert os.listdir(disk) == ["out.h5"]


@pytest.mark.parametrize("suffix", ["h5", "tsv", "tsv.gz"])
@pytest.mark.parametrize("by", ["the run", "gexpr merge"])
def test_no_room_for_the_output(
    suffix: str, by: str, disk: Path, world: World, expected: dict[str, str], tmp_path: Path
) -> None:
    """The run directory is elsewhere: every block is finished, and the merge fails."""
    output = disk / f"out.{suffix}"
    work = ["--run-dir", "work", "--block-rows", "12"]
    command = world.score("-o", str(output), *work)
    if by == "gexpr merge":
        assert run(world.score("--shard", "0/1", *work), tmp_path).code == 0
        command = ["merge", "work", "-o", str(output), "--quiet"]
    fill(disk, 4 << 10)
    result = run(command, tmp_path)
    assert (result.code, result.error) == (1, f"error: cannot write {output}: {FULL}")
    assert os.listdir(disk) == ["filler"] and unfinished(tmp_path) == []
    assert check_parts(tmp_path / "work") == set(range(20))
    make_room(disk)
    assert run(command, tmp_path) == (0, "", "")
    assert sha256(output) == expected[suffix]
    assert os.listdir(disk) == [output.name] and not (tmp_path / "work").exists()


def test_no_room_for_a_run_directory(disk: Path, world: World, tmp_path: Path) -> None:
    fill(disk, 0)
    result = run(world.score("-o", str(disk / "out.h5")), tmp_path)
    assert result.code == 1 and FULL in result.error
    assert os.listdir(disk) == ["filler"]


def test_no_room_for_standard_input(disk: Path, world: World, tmp_path: Path) -> None:
    fill(disk, 8 << 10)
    long = tmp_path / "long.vcf"
    long.write_text(world.vcf.read_text() + world.vcf.read_text().split("INFO\n")[1] * 20)
    result = run(world.score("-o", str(disk / "out.h5"), vcf="-"), tmp_path, stdin=long)
    assert (result.code, result.error) == (
        1,
        f"error: cannot write {disk / 'out.h5.run' / 'input.vcf'}: {FULL}",
    )
    assert os.listdir(disk) == ["filler"]
    temporary = {"TMPDIR": str(disk)}
    result = run(world.score("-o", "-", vcf="-"), tmp_path, stdin=long, environment=temporary, fresh=True)
    assert (result.code, result.out) == (1, "")
    assert FULL in result.error and "TMPDIR" in result.error
    assert os.listdir(disk) == ["filler"]


def test_no_room_for_the_index_of_the_genome(disk: Path, world: World, tmp_path: Path) -> None:
    fill(disk, 0)
    result = run(world.score("-o", "out.h5"), tmp_path, environment={"GEXPR_CACHE": str(disk / "cache")})
    assert result.code == 1
    assert FULL in result.error and "g.fa: " in result.error and "GEXPR_CACHE" in result.error
    assert sorted(path.name for path in disk.rglob("*") if path.is_file()) == ["filler"]
    assert not (tmp_path / "out.h5.run").exists()


def test_no_room_behind_standard_output(disk: Path, world: World, tmp_path: Path) -> None:
    fill(disk, 4 << 10)
    command = [sys.executable, "-m", "gexpr", *world.score("-o", "-", "--block-rows", "12")]
    with open(disk / "rows", "wb") as rows:
        result = subprocess.run(
            command,
            stdout=rows,
            stderr=subprocess.PIPE,
            cwd=tmp_path,
            env={**os.environ, "GEXPR_CACHE": str(tmp_path / ".cache"), "OMP_NUM_THREADS": "1"},
            text=True,
            check=False,
        )
    assert (result.returncode, result.stderr) == (1, f"error: cannot write -: {FULL}\n")
