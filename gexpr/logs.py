"""Messages and progress on stderr: the only place that decides how they look.

On a terminal progress is a bar with rate and time left. Elsewhere it is a plain line a minute, so that logs
of batch jobs stay readable. ``--log-json`` makes one JSON object of every line. Results never go through
here.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import Any

_quiet = False
_verbose = False
_json = False

PLAIN_SECONDS = 60.0
"""How long a plain line about progress waits for the next."""

# What a file says, such as a variant's ID, must not move the cursor of a terminal.
_ESCAPES = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\t\n"}


def _print(level: str, message: str, prefix: str = "", **fields: Any) -> None:
    if _json:
        stamp = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        line = json.dumps({"time": stamp, "level": level, "message": message, **fields})
    else:
        line = (prefix + message).translate(_ESCAPES)
    print(line, file=sys.stderr, flush=True)


def set_quiet(quiet: bool) -> None:
    """Suppress everything but warnings and errors (the ``--quiet`` option)."""
    global _quiet
    _quiet = quiet


def set_verbose(verbose: bool) -> None:
    """Show what :func:`detail` tells (the ``--verbose`` option)."""
    global _verbose
    _verbose = verbose


def set_json(as_json: bool) -> None:
    """Make every line a JSON object with ``time``, ``level`` and ``message`` (the ``--log-json`` option)."""
    global _json
    _json = as_json


def detail(message: str) -> None:
    """Print one line to stderr if ``--verbose`` was given and ``--quiet`` was not."""
    if _verbose and not _quiet:
        _print("detail", message)


def info(message: str) -> None:
    """Print one line to stderr unless ``--quiet`` was given."""
    if not _quiet:
        _print("info", message)


def warning(message: str) -> None:
    """Print one line that starts with ``warning:`` to stderr."""
    _print("warning", message, "warning: ")


def error(message: str) -> None:
    """Print one line that starts with ``error:`` to stderr."""
    _print("error", message, "error: ")


def duration(seconds: float) -> str:
    """A time in words: ``45 s``, ``12 min``, ``3 h 20 min``."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


class Progress:
    """A bar on a terminal, plain lines elsewhere; ``advance`` is cheap enough for every batch."""

    def __init__(self, description: str, total: int | None, unit: str) -> None:
        self.description, self.total, self.unit = description, total, unit
        self.done = 0
        self.started = self._told = time.monotonic()
        self._bar = None
        if sys.stderr.isatty() and not _quiet and not _json:
            from rich.console import Console
            from rich.progress import (
                BarColumn,
                MofNCompleteColumn,
                Progress,
                TextColumn,
                TimeElapsedColumn,
                TimeRemainingColumn,
            )

            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn(f"{unit}  {{task.fields[note]}}"),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._task = self._bar.add_task(description, total=total, note="")
            self._bar.start()

    def advance(self, count: int = 1, note: str | None = None) -> None:
        """Count ``count`` more units as done; ``note`` replaces the rate behind the bar."""
        self.done += count
        if self._bar is not None:
            self._bar.update(self._task, advance=count, note=note or f"{self.rate:,.1f}/s")
        elif not _quiet and time.monotonic() - self._told >= PLAIN_SECONDS:
            self._told = time.monotonic()
            self._tell()

    def _tell(self) -> None:
        """Print a plain line: what is done, how fast, how long it will still take."""
        left = None if self.total is None else max(0, self.total - self.done) / max(self.rate, 1e-9)
        text = f"{self.description}: {self.done:,} "
        if self.total is not None:
            text += f"of {self.total:,} {self.unit} ({self.done / max(self.total, 1):.0%})"
        else:
            text += self.unit
        text += f", {self.rate:,.1f}/s" + ("" if left is None else f", {duration(left)} left")
        numbers: dict[str, Any] = {"done": self.done, "total": self.total, "unit": self.unit}
        numbers |= {"rate": self.rate, "seconds_left": left}
        _print("progress", text, **(numbers if _json else {}))

    @property
    def rate(self) -> float:
        """Units done a second since the start."""
        return self.done / max(time.monotonic() - self.started, 1e-9)

    def close(self) -> None:
        """Remove the bar from the terminal."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


@contextmanager
def progress(description: str, total: int | None, unit: str) -> Iterator[Progress]:
    """Context manager around :class:`Progress`."""
    bar = Progress(description, total, unit)
    try:
        yield bar
    finally:
        bar.close()
