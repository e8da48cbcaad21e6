"""The folder of a run: manifest, parts, standard input, locks and logs."""

from __future__ import annotations

import io
import json
import os
import pickle
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gexpr.errors import GexprError, InputError
from gexpr.runs.directory import Block, Manifest, RunDirectory, RunLog, name_blocks, read_logs
from gexpr.writers.output import temporary_name
from gexpr.writers.parts import DamagedPartError, Part, write_part

MANIFEST = Manifest("toy", {"model": "a", "shifts": "0", "seed": None}, 10, 4, {"tracks": [[1, "é"]]})
PART = Part({"x": np.arange(4.0)}, {"note": "a part"})


@pytest.fixture
def directory(tmp_path: Path) -> RunDirectory:
    directory = RunDirectory(tmp_path / "out.run")
    directory.create()
    return directory


@pytest.fixture
def planned(directory: RunDirectory) -> RunDirectory:
    directory.agree(MANIFEST)
    return directory


def dead_process() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


# --- blocks and manifest -------------------------------------------------------------------


@given(rows=st.integers(0, 200), block_rows=st.integers(1, 210))
def test_blocks_cover_every_row_once(rows: int, block_rows: int) -> None:
    manifest = MANIFEST._replace(rows=rows, block_rows=block_rows)
    blocks = [manifest.block(number) for number in range(manifest.blocks)]
    assert [row for block in blocks for row in range(block.start, block.end)] == list(range(rows))
    assert all(block.end - block.start == block_rows for block in blocks[:-1])


def test_blocks_of_a_plan() -> None:
    assert [MANIFEST.block(i) for i in range(MANIFEST.blocks)] == [Block(0, 4), Block(4, 8), Block(8, 10)]


def test_a_manifest_comes_back() -> None:
    text = MANIFEST.to_json()
    assert Manifest.from_json(text) == MANIFEST and json.loads(text)["blocks"] == 3
    packed = MANIFEST._replace(content={"tracks": ((1, "é"),)})
    assert Manifest.from_json(packed.to_json()) == MANIFEST


@pytest.mark.parametrize(
    "change",
    [
        {"command": "other"},
        {"fingerprint": {"model": "b", "shifts": "0", "seed": None}},
        {"rows": 11},
        {"block_rows": 5},
    ],
    ids=lambda change: next(iter(change)),
)
def test_the_run_id_changes_with_what_a_part_depends_on(change: dict[str, Any]) -> None:
    assert MANIFEST._replace(**change).run_id != MANIFEST.run_id
    reordered = dict(reversed(MANIFEST.fingerprint.items()))
    assert MANIFEST._replace(fingerprint=reordered).run_id == MANIFEST.run_id
    assert MANIFEST._replace(content={}).run_id == MANIFEST.run_id


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "3", "{}", '{"format": "gexpr run"}', '{"format": "other", "format_version": 1}'],
)
def test_a_manifest_that_is_none(text: str, planned: RunDirectory) -> None:
    (planned.path / "manifest.json").write_text(text)
    with pytest.raises(InputError, match=r"manifest\.json: it is damaged: .*--restart"):
        planned.manifest()


def test_every_flipped_bit_of_a_manifest_is_noticed(planned: RunDirectory) -> None:
    """A digit that became another one would otherwise cut the output short."""
    path = planned.path / "manifest.json"
    data = path.read_bytes()
    for index in range(len(data)):
        damaged = bytearray(data)
        damaged[index] ^= 1 << index % 7
        path.write_bytes(damaged)
        try:
            assert planned.manifest() == MANIFEST  # white space became other white space
        except InputError as error:
            assert "damaged" in str(error)


def test_a_manifest_without_a_field_or_of_another_version(planned: RunDirectory) -> None:
    path = planned.path / "manifest.json"
    values = json.loads(path.read_text())
    path.write_text(json.dumps({name: value for name, value in values.items() if name != "rows"}))
    with pytest.raises(InputError, match="damaged"):
        planned.manifest()
    path.write_text(json.dumps({**values, "format_version": 2}))
    with pytest.raises(InputError, match="version 2 of the format is not known"):
        planned.manifest()


def test_a_folder_without_manifest_is_no_run(directory: RunDirectory, tmp_path: Path) -> None:
    for path in (directory.path, tmp_path / "nowhere"):
        with pytest.raises(InputError, match=r"not a run directory: it has no manifest\.json"):
            RunDirectory(path).manifest()
        assert not RunDirectory(path).exists()


# --- agreeing ------------------------------------------------------------------------------


def test_the_first_writer_fixes_the_plan(planned: RunDirectory) -> None:
    planned.agree(MANIFEST)
    before = (planned.path / "manifest.json").read_bytes()
    with pytest.raises(GexprError):
        planned.agree(MANIFEST._replace(fingerprint={**MANIFEST.fingerprint, "model": "b"}))
    assert (planned.path / "manifest.json").read_bytes() == before
    assert planned.manifest() == MANIFEST and planned.exists()
    assert sorted(os.listdir(planned.path)) == ["locks", "logs", "manifest.json", "parts"]


def test_of_two_plans_with_other_blocks_the_first_counts(planned: RunDirectory) -> None:
    planned.agree(MANIFEST._replace(block_rows=5))
    assert planned.manifest() == MANIFEST
    for other in (MANIFEST._replace(rows=11), MANIFEST._replace(content={})):
        with pytest.raises(GexprError, match="another plan of the same run"):
            planned.agree(other)


def test_a_difference_is_named(planned: RunDirectory) -> None:
    other = {"model": "b" * 200, "shifts": "0", "seed": 3, "mask": "all"}
    with pytest.raises(GexprError) as caught:
        planned.check("toy", other)
    message = str(caught.value)
    assert "mask is not set there and 'all' here" in message and "seed is not set there and 3 here" in message
    assert "model is 'a' there and 'bbb" in message and "shifts" not in message
    assert len(message) < 500 and "--restart" in message and "--run-dir" in message
    with pytest.raises(GexprError, match=r"is a run of gexpr toy; give another --run-dir"):
        planned.check("predict", MANIFEST.fingerprint)


def test_values_are_compared_as_json_holds_them(directory: RunDirectory) -> None:
    directory.agree(MANIFEST._replace(fingerprint={"shifts": (0, 1), "share": 0.1}))
    directory.check("toy", {"share": 0.1, "shifts": [0, 1]})
    with pytest.raises(GexprError, match=r"share is 0\.1 there and 0\.10000000000000002 here"):
        directory.check("toy", {"share": 0.1 + 2e-17, "shifts": (0, 1)})


# --- life ----------------------------------------------------------------------------------


def test_a_folder_can_be_made_twice_and_pickled(planned: RunDirectory) -> None:
    planned.create()
    assert pickle.loads(pickle.dumps(planned)).manifest() == MANIFEST


@pytest.mark.parametrize("name", ["thesis.docx", "parts.txt", ".profile", "manifest.json.bak"])
def test_another_folder_is_refused_and_left_alone(name: str, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / name).write_text("mine")
    with pytest.raises(GexprError, match=f"is not a run directory: it holds '{name}'"):
        RunDirectory(tmp_path / "mine").create()
    assert os.listdir(tmp_path / "mine") == [name]


def test_a_folder_of_logs_is_not_taken_for_a_run(tmp_path: Path) -> None:
    (tmp_path / "mine" / "logs").mkdir(parents=True)
    (tmp_path / "mine" / "logs" / "important.log").write_text("mine")
    with pytest.raises(GexprError, match="is not a run directory: it holds 'logs'"):
        RunDirectory(tmp_path / "mine").create()
    assert os.listdir(tmp_path / "mine") == ["logs"]


def test_another_programs_manifest_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "extension"
    folder.mkdir()
    (folder / "manifest.json").write_text('{"manifest_version": 3, "name": "an extension"}')
    with pytest.raises(GexprError, match=r"is not a run directory: it holds 'manifest\.json'"):
        RunDirectory(folder).create()
    assert os.listdir(folder) == ["manifest.json"]


def test_an_empty_folder_is_accepted(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    RunDirectory(tmp_path / "empty").create()
    assert sorted(os.listdir(tmp_path / "empty")) == ["locks", "logs", "parts"]


def test_places_where_no_folder_can_be_made(tmp_path: Path) -> None:
    with pytest.raises(GexprError, match=r"the folder .*missing does not exist"):
        RunDirectory(tmp_path / "missing" / "a.run").create()
    (tmp_path / "file").write_text("")
    with pytest.raises(GexprError, match=r"cannot make the run directory .*--run-dir"):
        RunDirectory(tmp_path / "file").create()


def test_removing_leaves_nothing_of_a_run(planned: RunDirectory, tmp_path: Path) -> None:
    planned.write(MANIFEST, 0, PART)
    planned.spool(io.BytesIO(b"text"))
    RunLog(planned).write("start")
    with planned.locked("shard-0-of-1"):
        pass
    planned.remove()
    assert os.listdir(tmp_path) == []
    planned.remove()


def test_removing_leaves_what_others_put_there(planned: RunDirectory) -> None:
    (planned.path / "notes.txt").write_text("mine")
    planned.write(MANIFEST, 0, PART)
    planned.remove()
    assert os.listdir(planned.path) == ["notes.txt"]


def test_a_folder_without_plan_is_removed_and_one_with_a_plan_is_not(
    directory: RunDirectory, tmp_path: Path
) -> None:
    directory.agree(MANIFEST)
    directory.remove_if_unused()
    assert directory.exists()
    (directory.path / "manifest.json").unlink()
    directory.remove_if_unused()
    assert os.listdir(tmp_path) == []
    directory.remove_if_unused()


def test_a_folder_in_which_another_process_plans_is_kept(directory: RunDirectory) -> None:
    with directory.locked("shard-1-of-2"):
        directory.remove_if_unused()
        assert directory.path.is_dir()
    directory.remove_if_unused()
    assert not directory.path.exists()


def test_restarting_forgets_plan_parts_and_input(planned: RunDirectory) -> None:
    planned.write(MANIFEST, 0, PART)
    planned.spool(io.BytesIO(b"text"))
    with planned.locked("shard-0-of-1"):
        planned.restart()
        assert not planned.exists() and planned.finished() == set() and not planned.spooled().exists()
        other = MANIFEST._replace(fingerprint={})
        planned.agree(other)
    assert planned.manifest() == other


# --- parts ---------------------------------------------------------------------------------


def test_parts_carry_their_run_and_block(planned: RunDirectory) -> None:
    assert planned.finished() == set()
    size = planned.write(MANIFEST, 2, PART)
    assert planned.part_path(2).stat().st_size == size and planned.finished() == {2}
    part = planned.read(MANIFEST, 2)
    assert part.about == {"note": "a part", "block": 2, "run": MANIFEST.run_id}
    assert part.arrays["x"].tolist() == [0, 1, 2, 3]


def test_a_part_of_another_run_or_block_is_refused(planned: RunDirectory) -> None:
    planned.write(MANIFEST._replace(block_rows=5), 0, PART)
    planned.write(MANIFEST, 1, PART)
    os.rename(planned.part_path(1), planned.part_path(2))
    write_part(planned.part_path(1), PART)
    for block in range(3):
        with pytest.raises(DamagedPartError, match="belongs to another run or block"):
            planned.read(MANIFEST, block)


def test_other_files_are_no_parts(planned: RunDirectory) -> None:
    planned.write(MANIFEST, 0, PART)
    for name in ("a.part", "000001.part.tmp", "000002.damaged", ".000003.part.host.1.part", "-1.part"):
        (planned.path / "parts" / name).write_text("")
    assert planned.finished() == {0}


def test_a_part_that_is_set_aside_is_missing(planned: RunDirectory) -> None:
    planned.write(MANIFEST, 0, PART)
    aside = planned.set_aside(0)
    assert aside.is_file() and planned.finished() == set()
    planned.write(MANIFEST, 0, PART)
    assert planned.set_aside(0) == aside


def test_leftovers_of_dead_processes_are_cleaned_and_others_are_not(
    planned: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    part, manifest = planned.part_path(1), planned.path / "manifest.json"
    mine = temporary_name(part)
    mine.write_text("at work")
    elsewhere = mine.with_name(f".{part.name}.another-host.1.part")
    elsewhere.write_text("at work")
    dead = dead_process()
    with monkeypatch.context() as patch:
        patch.setattr(os, "getpid", lambda: dead)
        for path in (part, manifest):
            temporary_name(path).write_text("half")
    planned.write(MANIFEST, 0, PART)
    planned.clean()
    assert set(os.listdir(planned.path / "parts")) == {"000000.part", mine.name, elsewhere.name}
    assert sorted(os.listdir(planned.path)) == ["locks", "logs", "manifest.json", "parts"]


# --- standard input ------------------------------------------------------------------------


def test_standard_input_is_stored_once(directory: RunDirectory) -> None:
    data = bytes(range(256)) * 9000  # more than one piece
    stored = directory.spool(io.BytesIO(data))
    assert stored == directory.spooled() and stored.read_bytes() == data
    assert directory.spool(io.BytesIO(data)) == stored
    assert directory.spool(io.BytesIO(b"")) == stored
    assert stored.read_bytes() == data


@pytest.mark.parametrize("other", [b"#vcf\nrecord 2\n", b"#vcf\nrecord", b"#vcf\nrecord 1\nmore", b"x"])
def test_another_standard_input_is_refused(other: bytes, directory: RunDirectory) -> None:
    directory.spool(io.BytesIO(b"#vcf\nrecord 1\n"))
    with pytest.raises(GexprError, match="another standard input"):
        directory.spool(io.BytesIO(other))
    assert directory.spooled().read_bytes() == b"#vcf\nrecord 1\n"


def test_an_empty_standard_input_needs_a_stored_one(directory: RunDirectory) -> None:
    with pytest.raises(InputError, match=r"standard input: .*empty"):
        directory.spool(io.BytesIO(b""))
    assert not directory.spooled().exists()


@pytest.mark.parametrize("same", [True, False])
def test_two_processes_store_their_input_at_once(same: bool, directory: RunDirectory) -> None:
    class Late(io.BytesIO):
        """Another process stores its input while this one is being read."""

        def read(self, size: int | None = -1) -> bytes:
            directory.spooled().write_bytes(b"theirs")
            return super().read(size)

    if same:
        assert directory.spool(Late(b"theirs")).read_bytes() == b"theirs"
    else:
        with pytest.raises(GexprError, match="another standard input"):
            directory.spool(Late(b"ours"))
    assert directory.spooled().read_bytes() == b"theirs"


# --- locks ---------------------------------------------------------------------------------


def test_a_shard_is_locked_while_a_process_works_on_it(directory: RunDirectory) -> None:
    with directory.locked("shard-1-of-4"):
        with (
            pytest.raises(GexprError, match=rf"process {os.getpid()} on .* is at work on shard 1 of 4 of"),
            directory.locked("shard-1-of-4"),
        ):
            pytest.fail("locked twice")
        with directory.locked("shard-2-of-4"):
            pass
    with directory.locked("shard-1-of-4"):
        pass


def test_a_lock_ends_with_its_process(directory: RunDirectory) -> None:
    code = (
        "import os, sys; from gexpr.runs.directory import RunDirectory\n"
        "lock = RunDirectory(sys.argv[1]).locked('shard-0-of-1'); lock.__enter__()\n"
        "print('locked', flush=True); sys.stdin.read(); os.kill(os.getpid(), 9)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(directory.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        assert process.stdout.readline() == b"locked\n"
        with pytest.raises(GexprError, match=f"process {process.pid} on"), directory.locked("shard-0-of-1"):
            pass
        process.stdin.close()
        assert process.wait() == -9
    with directory.locked("shard-0-of-1"):
        pass


def test_a_file_system_without_locks_is_no_obstacle(
    directory: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_args) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    with directory.locked("shard-0-of-1"), directory.locked("shard-0-of-1"):
        pass


# --- logs ----------------------------------------------------------------------------------


def test_logs_are_read_in_the_order_of_time(directory: RunDirectory) -> None:
    log = RunLog(directory)
    log.write("start", shard="0/2")
    log.write("stop", how="done")
    (directory.path / "logs" / "other.jsonl").write_text('{"event": "block", "time": 5, "pid": 1}\n')
    lines = read_logs(directory)
    assert [line["event"] for line in lines] == ["block", "start", "stop"]
    assert lines[1]["shard"] == "0/2" and lines[1]["pid"] == os.getpid() and lines[1]["host"]


def test_half_a_line_and_nonsense_are_left_out(directory: RunDirectory) -> None:
    good = '{"event": "block", "time": 5}\n'
    nonsense = [
        "[1, 2]",
        "3",
        '"text"',
        "",
        "\x00\x00",
        "{}",
        '{"event": "block", "time": "5"}',
        '{"time": 3}',
    ]
    text = good + "\n".join(nonsense) + "\n" + good + good[:12]
    (directory.path / "logs" / "a.jsonl").write_text(text)
    (directory.path / "logs" / "b.jsonl").write_bytes(b"\xff\xfe{\n")
    (directory.path / "logs" / "c.txt").write_text(good)
    assert read_logs(directory) == [{"event": "block", "time": 5}] * 2
    assert read_logs(RunDirectory(directory.path / "nowhere")) == []


def test_a_process_has_one_log(directory: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    for second in range(3):
        monkeypatch.setattr(time, "time_ns", lambda second=second: second * 10**9)
        RunLog(directory).write("block")
    assert len(os.listdir(directory.path / "logs")) == 1
    assert len(read_logs(directory)) == 3


def test_a_log_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    RunLog(RunDirectory(tmp_path / "nowhere")).write("start")
    assert os.listdir(tmp_path) == []


# --- names of blocks -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("blocks", "text"),
    [
        ([], ""),
        ([3], "3"),
        ([4, 3], "3 to 4"),
        ([12, 5, 6, 7, 8, 3], "3, 5 to 8 and 12"),
        ([0, 2], "0 and 2"),
        (range(0, 24, 2), "0, 2, 4, 6, 8, 10, 12, 14, 16, 18 and 2 more ranges"),
        (range(0, 20, 2), "0, 2, 4, 6, 8, 10, 12, 14, 16 and 18"),
    ],
)
def test_names_of_blocks(blocks: list[int], text: str) -> None:
    assert name_blocks(blocks) == text
