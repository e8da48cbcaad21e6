"""The worker thread that prepares windows."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from gexpr.scoring.prefetch import prefetch


def test_order_is_kept_and_the_thread_ends() -> None:
    assert list(prefetch(iter(range(100)))) == list(range(100))
    assert list(prefetch([])) == []
    assert not [t for t in threading.enumerate() if t.name == "gexpr-windows"]


def test_an_error_comes_after_the_items_before_it() -> None:
    def failing() -> Iterator[int]:
        yield 1
        raise ValueError("broken")

    seen = []
    with pytest.raises(ValueError, match="broken"):
        for item in prefetch(failing()):
            seen.append(item)
    assert seen == [1]


def test_stopping_early_ends_the_thread() -> None:
    made = []

    def endless() -> Iterator[int]:
        while True:
            made.append(len(made))
            yield made[-1]

    stream = prefetch(endless(), depth=2)
    assert next(stream) == 0
    stream.close()
    assert not [t for t in threading.enumerate() if t.name == "gexpr-windows"]
    assert len(made) < 10
