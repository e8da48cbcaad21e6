"""The job behind ``gexpr status``: what is done of a run, by whom, how fast, and how long it will take."""

from __future__ import annotations

import time
from collections import defaultdict
from typing import Any, NamedTuple

from gexpr.runs.common import align, count
from gexpr.runs.directory import RunDirectory, name_blocks, read_logs

RECENT = 600.0
"""Seconds: the rate is that of the blocks finished so long before the newest one."""


class ProcessStatus(NamedTuple):
    """One process of a run.

    ``state`` is ``merged``, ``done``, ``interrupted`` or ``failed`` as its log says, or ``working`` when the
    log has no end: it works, or was killed, ``idle`` seconds after it last finished something. ``worker`` is
    a process that only computes blocks for another.
    """

    host: str
    pid: int
    shard: str | None
    state: str
    blocks: int
    rows: int
    rate: float
    idle: float


class RunStatus(NamedTuple):
    """State of a run; ``rate`` in rows a second, ``left`` in seconds or None where it cannot be told."""

    path: str
    command: str
    rows: int
    blocks: int
    finished: int
    rows_finished: int
    missing: list[int]
    rate: float
    left: float | None
    processes: list[ProcessStatus]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**self._asdict(), "processes": [process._asdict() for process in self.processes]}


def run_status(run_dir: str, now: float | None = None) -> RunStatus:
    """Look at a run directory; nothing in it is changed.

    Args:
        run_dir: the run directory.
        now: seconds since 1970, for tests; None is the present.

    Raises:
        InputError: no run is there.
    """
    directory = RunDirectory(run_dir)
    manifest = directory.manifest()
    now = time.time() if now is None else now
    finished = {block for block in directory.finished() if block < manifest.blocks}
    rows_finished = sum(end - start for start, end in map(manifest.block, finished))
    by_process: dict[tuple[str, int], list[dict[str, Any]]] = defaultdict(list)
    for line in read_logs(directory):
        pid = line.get("pid")
        by_process[str(line.get("host", "?")), pid if isinstance(pid, int) else 0].append(line)
    processes = [_process(host, pid, lines, now) for (host, pid), lines in by_process.items()]
    rate = _rate([line for lines in by_process.values() for line in lines if _is_block(line)])
    rows_left = manifest.rows - rows_finished
    left = 0.0 if not rows_left else (rows_left / rate if rate else None)
    return RunStatus(
        path=run_dir,
        command=manifest.command,
        rows=manifest.rows,
        blocks=manifest.blocks,
        finished=len(finished),
        rows_finished=rows_finished,
        missing=sorted(set(range(manifest.blocks)) - finished),
        rate=rate,
        left=left,
        processes=processes,
    )


def _process(host: str, pid: int, lines: list[dict[str, Any]], now: float) -> ProcessStatus:
    blocks = [line for line in lines if _is_block(line)]
    rows = sum(line["rows"] for line in blocks)
    seconds = sum(line["seconds"] for line in blocks)
    ends = [str(line.get("how", "?")) for line in lines if line["event"] == "stop"]
    starts = sum(line["event"] == "start" for line in lines)
    if ends and len(ends) >= starts:
        state = ends[-1]
    else:
        state = "working" if starts else "worker"
    return ProcessStatus(
        host=host,
        pid=pid,
        shard=next((str(line["shard"]) for line in lines if line.get("shard")), None),
        state=state,
        blocks=len(blocks),
        rows=rows,
        rate=rows / seconds if seconds else 0.0,
        idle=max(0.0, now - lines[-1]["time"]),
    )


def _is_block(line: dict[str, Any]) -> bool:
    numbers = isinstance(line.get("rows"), int) and isinstance(line.get("seconds"), (int, float))
    return line["event"] == "block" and numbers


def _rate(done: list[dict[str, Any]]) -> float:
    """Rows a second of all processes together, over the last minutes in which blocks were finished."""
    if not done:
        return 0.0
    newest = max(line["time"] for line in done)
    recent = [line for line in done if line["time"] > newest - RECENT]
    first = min(line["time"] - line["seconds"] for line in recent)
    return sum(line["rows"] for line in recent) / max(newest - first, 1e-3)


def status_lines(status: RunStatus) -> list[str]:
    """The status as ``gexpr status`` prints it."""
    share = status.finished / status.blocks if status.blocks else 1.0
    lines = [
        f"{status.path}: gexpr {status.command}",
        f"{status.finished:,} of {count(status.blocks, 'block')} finished ({share:.0%}), "
        f"{status.rows_finished:,} of {count(status.rows, 'row')}",
    ]
    if status.missing:
        lines.append(f"missing: block {name_blocks(status.missing)}")
    else:
        lines.append(f"complete: gexpr merge {status.path} -o ... makes the output")
    if status.rate:
        lines.append(f"{status.rate:,.1f} rows a second in all")
    if status.left:
        lines.append(f"about {duration(status.left)} left at that rate")
    if status.processes:
        lines.append("")
        head = ("host", "process", "shard", "state", "blocks", "rows", "rows/s", "last sign of life")
        rows = [
            (
                process.host,
                str(process.pid),
                process.shard or "-",
                process.state,
                f"{process.blocks:,}",
                f"{process.rows:,}",
                f"{process.rate:,.1f}",
                f"{duration(process.idle)} ago",
            )
            for process in status.processes
        ]
        lines += align([head, *rows])
    return lines


def duration(seconds: float) -> str:
    """``45 s``, ``12 min``, ``3 h 20 min``, ``2 d 4 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h"
