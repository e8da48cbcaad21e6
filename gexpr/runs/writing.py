"""Publishing of finished blocks in a thread of its own, while the next block is computed."""

from __future__ import annotations

import signal
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Generic, TypeVar

from gexpr.runs.signals import STOPPING

Item = TypeVar("Item")


class WriterThread(Generic[Item]):
    """Hands finished blocks to a thread; use as a context manager, which waits for the last one.

    At most one block is in the thread's hands: :meth:`put` waits for the one before. What publishing
    raises is raised by the next :meth:`put` or at the end, and comes before an error of the block
    that was computed in the meantime.

    Args:
        publish: called in the thread with each block, in the order of :meth:`put`.
    """

    def __init__(self, publish: Callable[[Item], Any]) -> None:
        self._publish = publish
        self._pending: Future[Any] | None = None
        self._pool = ThreadPoolExecutor(1, "gexpr-writer", _leave_signals_to_others)

    def put(self, item: Item) -> None:
        """Publish a block when the one before is published, which is waited for.

        Raises:
            Exception: what publishing the one before raised; this one is not published then.
        """
        self._wait()
        self._pending = self._pool.submit(self._publish, item)

    def _wait(self) -> None:
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def __enter__(self) -> WriterThread[Item]:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self._wait()
        finally:
            self._pool.shutdown()


def _leave_signals_to_others() -> None:
    """Signals that stop a run go to the main thread, which may be waiting for this one."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [getattr(signal, name) for name in STOPPING])
