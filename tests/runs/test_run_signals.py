"""What a signal raises reaches the user as an interruption, whatever code in between makes of it."""

from __future__ import annotations

import os
import signal

import pytest

from gexpr.errors import GexprError, Interrupted
from gexpr.runs.signals import Stopper


def strike() -> None:
    os.kill(os.getpid(), signal.SIGUSR1)


def test_an_error_that_the_signal_became() -> None:
    with pytest.raises(Interrupted, match="stopped by SIGUSR1"):
        with Stopper():
            try:
                strike()
            except BaseException:
                raise SystemError("error return without exception set") from None


def test_a_signal_that_was_taken_for_something_else() -> None:
    with pytest.raises(Interrupted, match="stopped by SIGUSR1"):
        with Stopper():
            try:
                strike()
            except BaseException:
                pass
            with Stopper():
                pytest.fail("the run went on")


def test_a_fault_in_a_block_that_is_being_finished_is_told() -> None:
    with pytest.raises(GexprError, match="disk"):
        with Stopper() as stopper, stopper.finishing():
            strike()
            raise GexprError("the disk is full")


def test_handlers_are_put_back() -> None:
    before = signal.getsignal(signal.SIGUSR1)
    with Stopper() as outer:
        with Stopper() as inner, inner.finishing():
            strike()
            assert inner.stopping and not outer.stopping
        assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL
    assert signal.getsignal(signal.SIGUSR1) == before
    assert Stopper._active == []
