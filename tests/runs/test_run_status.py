"""What ``gexpr status`` says of a run, from manifests, parts and logs made by hand."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from gexpr.cli.main import main
from gexpr.errors import InputError
from gexpr.runs.directory import Manifest, RunDirectory
from gexpr.runs.status import ProcessStatus, duration, run_status, status_lines
from gexpr.writers.parts import Part

MANIFEST = Manifest("predict", {}, 1050, 100, {})
MakeRun = Callable[..., str]


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """Makes a run of 11 blocks from the numbers of finished ones and the lines of logs."""

    def make(finished: list[int], *logs: list[dict | str], manifest: Manifest = MANIFEST) -> str:
        directory = RunDirectory(tmp_path / "a.run")
        directory.create()
        directory.agree(manifest)
        for block in finished:
            directory.write(manifest, block, Part({"x": np.zeros(1)}, {}))
        for number, lines in enumerate(logs):
            texts = [line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines]
            (directory.path / "logs" / f"{number}.jsonl").write_text("".join(texts))
        return str(directory.path)

    return make


def line(event: str, time: float, host: str = "a", pid: int = 1, **values: object) -> dict:
    return {"event": event, "time": time, "host": host, "pid": pid, **values}


def block(
    time: float, number: int, host: str = "a", pid: int = 1, rows: int = 100, seconds: float = 5
) -> dict:
    return line("block", time, host, pid, block=number, rows=rows, seconds=seconds)


def test_a_run_that_was_only_planned(make_run: MakeRun) -> None:
    path = make_run([])
    status = run_status(path, now=50)
    assert status.path == path and status.command == "predict"
    assert (status.rows, status.blocks, status.finished, status.rows_finished) == (1050, 11, 0, 0)
    assert status.missing == list(range(11)) and status.rate == 0 and status.left is None
    assert status.processes == []
    assert status_lines(status) == [
        f"{path}: gexpr predict",
        "0 of 11 blocks finished (0%), 0 of 1,050 rows",
        "missing: block 0 to 10",
    ]


def test_numbers_of_two_processes(make_run: MakeRun) -> None:
    path = make_run(
        [0, 1, 2, 10],
        [
            line("start", 1000, shard="0/2"),
            block(1010, 0, seconds=10),
            block(1020, 2, seconds=10),
            block(1030, 10, rows=50, seconds=10),
            line("stop", 1031, how="done"),
        ],
        [line("start", 1000, "b", 7, shard="1/2"), block(1030, 1, "b", 7, seconds=30)],
    )
    status = run_status(path, now=1130)
    assert (status.finished, status.rows_finished) == (4, 350)
    assert status.missing == [3, 4, 5, 6, 7, 8, 9]
    # 350 rows between 1000, when the first block was begun, and 1030.
    assert status.rate == pytest.approx(350 / 30) and status.left == pytest.approx(700 / (350 / 30))
    assert status.processes == [
        ProcessStatus("a", 1, "0/2", "done", 3, 250, pytest.approx(250 / 30), 99),
        ProcessStatus("b", 7, "1/2", "working", 1, 100, pytest.approx(100 / 30), 100),
    ]
    lines = status_lines(status)
    assert lines[1:5] == [
        "4 of 11 blocks finished (36%), 350 of 1,050 rows",
        "missing: block 3 to 9",
        "11.7 rows a second in all",
        "about 60 s left at that rate",
    ]
    assert [text.split() for text in lines[6:]] == [
        ["host", "process", "shard", "state", "blocks", "rows", "rows/s", "last", "sign", "of", "life"],
        ["a", "1", "0/2", "done", "3", "250", "8.3", "2", "min", "ago"],
        ["b", "7", "1/2", "working", "1", "100", "3.3", "2", "min", "ago"],
    ]


def test_the_rate_is_that_of_the_last_minutes(make_run: MakeRun) -> None:
    path = make_run([0, 1, 2], [block(1000, 0, seconds=900), block(9000, 1), block(9010, 2)])
    status = run_status(path, now=9010)
    assert status.rate == pytest.approx(200 / 15) and status.left == pytest.approx(750 * 15 / 200)


@pytest.mark.parametrize(
    ("events", "state"),
    [
        ([("start", None)], "working"),
        ([("start", None), ("stop", "failed")], "failed"),
        ([("start", None), ("stop", "interrupted")], "interrupted"),
        ([("start", None), ("stop", "interrupted"), ("start", None)], "working"),
        ([("start", None), ("stop", "failed"), ("start", None), ("stop", "merged")], "merged"),
        ([("stop", "merged")], "merged"),
        ([("block", None)], "worker"),
    ],
)
def test_states_of_a_process(events: list[tuple[str, str | None]], state: str, make_run: MakeRun) -> None:
    lines = [line(event, 100 + i, how=how) for i, (event, how) in enumerate(events)]
    (process,) = run_status(make_run([], lines), now=110).processes
    assert process.state == state and process.shard is None and process.idle == 110 - 99 - len(events)


def test_equal_process_numbers_on_two_hosts_are_two_processes(make_run: MakeRun) -> None:
    status = run_status(make_run([], [line("start", 1, "a", 1)], [line("start", 2, "b", 1)]), now=3)
    assert [(process.host, process.pid) for process in status.processes] == [("a", 1), ("b", 1)]


def test_damaged_logs_are_no_obstacle(make_run: MakeRun) -> None:
    good = json.dumps(block(1000, 0)) + "\n"
    odd = [
        {"event": "block", "time": 1001},
        {"event": "block", "time": 1002, "rows": "many", "seconds": 1, "host": 3, "pid": "x"},
        {"event": "start", "time": "yesterday"},
        {"no": "event"},
    ]
    path = make_run([0], [good, "\x00\x00\n", *odd, good[:30]], [good[:1]])
    status = run_status(path, now=999)
    assert [process.rows for process in status.processes] == [100, 0, 0]
    assert status.processes[0].idle == 0 and status.rate == pytest.approx(20)
    assert status_lines(status)


def test_parts_that_no_block_has_do_not_count(make_run: MakeRun) -> None:
    path = make_run([0])
    os.rename(Path(path) / "parts" / "000000.part", Path(path) / "parts" / "000011.part")
    assert run_status(path).finished == 0


@pytest.mark.parametrize("rows", [0, 1050])
def test_a_complete_run(rows: int, make_run: MakeRun) -> None:
    path = make_run(list(range(-(-rows // 100))), manifest=MANIFEST._replace(rows=rows))
    status = run_status(path)
    assert status.missing == [] and status.left == 0 and status.rows_finished == rows
    assert f"complete: gexpr merge {path} -o ... makes the output" in status_lines(status)
    assert "(100%)" in status_lines(status)[1]


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a run directory"):
        run_status(str(tmp_path))
    result = invoke(str(tmp_path / "nowhere"))
    assert result.exit_code == 1 and result.stderr.startswith("error: ") and "nowhere" in result.stderr


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["status", *arguments])


def test_the_command_prints_lines_or_json(make_run: MakeRun) -> None:
    path = make_run(
        [0, 1], [line("start", 1000), block(1010, 0), block(1020, 1), line("stop", 1021, how="done")]
    )
    before = sorted(str(each) for each in Path(path).rglob("*"))
    text = invoke(path)
    assert text.exit_code == 0 and text.stdout.startswith(f"{path}: gexpr predict\n2 of 11 blocks finished")
    found = json.loads(invoke(path, "--json").stdout)
    status = run_status(path)
    expected = json.loads(json.dumps(status.to_dict()))
    for each in (found, expected):
        each["processes"][0].pop("idle")
    assert found == expected
    assert found["missing"] == list(range(2, 11)) and found["processes"][0]["state"] == "done"
    assert sorted(str(each) for each in Path(path).rglob("*")) == before
    assert invoke().exit_code == 2


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.4, "0 s"),
        (45, "45 s"),
        (89, "89 s"),
        (90, "2 min"),
        (720, "12 min"),
        (5340, "89 min"),
        (5399, "1 h 30 min"),
        (12_000, "3 h 20 min"),
        (172_740, "47 h 59 min"),
        (187_200, "2 d 4 h"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@given(st.floats(0, 1e7))
def test_a_duration_is_off_by_its_last_unit_at_most(seconds: float) -> None:
    sizes = {"s": 1, "min": 60, "h": 3600, "d": 86400}
    fields = duration(seconds).split()
    value = sum(int(number) * sizes[unit] for number, unit in zip(fields[::2], fields[1::2], strict=True))
    assert abs(value - seconds) <= (3600 if fields[-1] == "h" else sizes[fields[-1]] / 2)
