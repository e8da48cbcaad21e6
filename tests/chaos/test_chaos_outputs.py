"""``kill -9`` and full disks while several outputs are written: all or none, and a rerun completes."""

from __future__ import annotations

import functools
import re
import signal
from pathlib import Path

import pytest
from chaos_tools import World, check_parts, file_events, run, sha256, unfinished
from test_chaos_full_disk import FULL, fill, make_room

pytestmark = pytest.mark.chaos

NAMES = ("out.h5", "out.tsv.gz", "out.vcf.gz", "out.parquet")
FILES = sorted([*NAMES, "out.vcf.gz.tbi"])


def outputs(folder: str = "") -> list[str]:
    return [argument for name in NAMES for argument in ("-o", f"{folder}{name}")]


@pytest.fixture(scope="module")
def whole(world: World, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Name -> SHA-256 of what an undisturbed run writes."""
    folder = tmp_path_factory.mktemp("whole")
    assert run(world.score(*outputs()), folder) == (0, "", "")
    return {name: sha256(folder / name) for name in FILES}


def found(folder: Path) -> dict[str, str]:
    return {path.name: sha256(path) for path in folder.iterdir() if path.is_file()}


def test_killed_before_every_change_to_an_output(world: World, whole: dict[str, str], tmp_path: Path) -> None:
    """The merge of a finished run: everything from the first temporary file to the last removal."""
    shard = world.score("--shard", "0/1", "--run-dir", "work", "--block-rows", "60")
    command = ["merge", "work", *outputs(), "--vcf", str(world.vcf), "--quiet"]

    def attempt(name: str, kill_at: int | None) -> tuple[Path, list[str], int]:
        folder = tmp_path / name
        folder.mkdir()
        assert run(shard, folder).code == 0
        log = str(tmp_path / f"{name}.events")
        result = run(command, folder, before=functools.partial(file_events, log, kill_at, str(folder)))
        events = Path(log).read_text().replace(str(folder), "").splitlines()
        return folder, [re.sub(r"[0-9]{2,}", "N", event) for event in events], result.code

    folder, events, code = attempt("undisturbed", None)
    assert code == 0 and found(folder) == whole
    renames = [number for number, event in enumerate(events) if event.startswith("os.rename")]
    assert len(renames) == 6  # five outputs, and the note of what is about to be published
    removals = [number for number, event in enumerate(events) if number > renames[-1]][:4]
    for number in [0, *renames, *removals]:
        folder, _, code = attempt(f"kill{number}", number)
        assert code == -signal.SIGKILL
        for name, digest in found(folder).items():
            assert name.startswith(".") or digest == whole[name], (events[number], name)
        if (folder / "work" / "manifest.json").exists():
            result = run(command, folder)
            assert result == (0, "", ""), (events[number], result)
        assert found(folder) == whole and unfinished(folder) == [], events[number]


@pytest.mark.parametrize("room", [4 << 10, 40 << 10, 80 << 10])
def test_no_room_for_one_of_the_outputs(
    room: int, disk: Path, world: World, whole: dict[str, str], tmp_path: Path
) -> None:
    command = world.score(*outputs(f"{disk}/"), "--run-dir", "work", "--block-rows", "60")
    fill(disk, room)
    result = run(command, tmp_path)
    assert result.code == 1 and re.fullmatch(rf"error: cannot write {disk}/out\.\S+: {FULL}", result.error)
    assert [path.name for path in disk.iterdir()] == ["filler"] and unfinished(tmp_path) == []
    assert check_parts(tmp_path / "work") == set(range(4))
    make_room(disk)
    assert run(command, tmp_path) == (0, "", "")
    assert found(disk) == whole and not (tmp_path / "work").exists()
