"""Signals that ask a process to end: the first lets finished work be saved, a second ends at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType, TracebackType
from typing import Any, ClassVar

from gexpr import logs
from gexpr.errors import GexprError, Interrupted

STOPPING = ("SIGTERM", "SIGINT", "SIGUSR1", "SIGHUP")
"""Signals that a resumable run takes as a request to stop."""


class StopNow(BaseException):
    """Raised where a signal strikes; no ``except Exception`` on the way may take it for a fault.

    :class:`Stopper` and :func:`terminable` turn it into the error that the user sees.
    """


class Terminated(GexprError):
    """A signal asked the process to end; what was being written has been removed."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}; the output is not complete")
        self.exit_code = 128 + number


@contextmanager
def terminable() -> Iterator[Callable[[], None]]:
    """Turn the first SIGTERM or SIGHUP inside the block into :class:`Terminated`; a second one ends at once.

    For work that cannot be resumed. Without it such a signal ends the process where it stands and
    leaves unfinished files behind. Signals that are ignored (``nohup``) or handled already are left
    alone, and so are threads other than the main one, which cannot take signals.

    Yields:
        A function to call when only the output's name and housekeeping are missing: a first signal,
        SIGINT included, changes nothing from there on, so that nothing complete looks interrupted.
    """
    before: dict[int, Any] = {}
    received: list[int] = []
    complete = False

    def stop(number: int, _frame: FrameType | None) -> None:
        for taken in before:
            signal.signal(taken, signal.SIG_DFL)
        if not complete:
            received.append(number)
            raise StopNow

    def take(name: str) -> None:
        number = getattr(signal, name, None)
        if number is not None and threading.current_thread() is threading.main_thread():
            handler = signal.getsignal(number)
            if handler in (signal.SIG_DFL, signal.default_int_handler):
                before[number] = handler
                signal.signal(number, stop)

    def completing() -> None:
        nonlocal complete
        complete = True
        take("SIGINT")

    try:
        for name in ("SIGTERM", "SIGHUP"):
            take(name)
        yield completing
    except StopNow:
        if not received:
            raise
        raise Terminated(received[0]) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _is_stopper(handler: Any) -> bool:
    return isinstance(getattr(handler, "__self__", None), Stopper)


class Stopper:
    """Makes a run end between two blocks when a signal asks for it; use as a context manager.

    Inside :meth:`finishing` the first signal is only remembered, and the caller asks for
    :attr:`stopping` when its block is finished; elsewhere the work ends where it strikes, with
    :class:`~gexpr.errors.Interrupted` (exit code 75). A second signal ends the process at once,
    with the system's own code. Ignored signals stay ignored, and in a thread other than the main
    one nothing is taken over. Inside another Stopper, this one takes its place.
    """

    _active: ClassVar[list[Stopper]] = []

    def __init__(self) -> None:
        self._before: dict[int, Any] = {}
        self._working = 0
        self._raised = False
        self._received: int | None = None
        self.hint = "the same command continues"
        """What the message of :class:`~gexpr.errors.Interrupted` says about going on."""

    def __enter__(self) -> Stopper:
        for outer in self._active:
            # Some code in between may have taken what the signal raised for its own.
            outer.check()
        self._active.append(self)
        if threading.current_thread() is threading.main_thread():
            for name in STOPPING:
                number = getattr(signal, name, None)
                if number is None:
                    continue
                handler = signal.getsignal(number)
                if _is_stopper(handler) or handler in (signal.SIG_DFL, signal.default_int_handler):
                    self._before[number] = handler
                    signal.signal(number, self._receive)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            # After a first signal the next one ends the process, whatever is further out.
            signal.signal(number, signal.SIG_DFL if self.stopping and _is_stopper(handler) else handler)
        self._before.clear()
        self._active.remove(self)
        # Code that is written in C, an import say, may have made another error of what the signal raised.
        if self._raised and kind is not None and not issubclass(kind, Interrupted):
            raise self.interrupted() from None

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        for taken in self._before:
            signal.signal(taken, signal.SIG_DFL)
        self._received = number
        if not self._working:
            self._raised = True
            raise StopNow
        # RuntimeError: the signal came while this process was writing to the same stream.
        with suppress(RuntimeError, OSError):
            logs.info(f"{signal.Signals(number).name}: finishing what is under way; once more stops at once")

    @property
    def stopping(self) -> bool:
        """Whether a signal has come."""
        return self._received is not None

    @contextmanager
    def finishing(self) -> Iterator[None]:
        """Work inside is not interrupted by the first signal."""
        self._working += 1
        try:
            yield
        finally:
            self._working -= 1

    def complete(self) -> None:
        """From here on only the output's name and housekeeping are missing: a first signal changes nothing.

        Otherwise a run whose output is there could claim to be interrupted.
        """
        self._working += 1

    def check(self) -> None:
        """Raise :class:`~gexpr.errors.Interrupted` when a signal has come."""
        if self.stopping:
            raise self.interrupted()

    def interrupted(self) -> Interrupted:
        """The error that ends a run after a signal."""
        name = signal.Signals(self._received).name if self._received is not None else "a signal"
        return Interrupted(f"stopped by {name}; {self.hint}")
