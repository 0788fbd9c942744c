"""A SIGINT is neither lost nor raised where it does harm."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest
import z3

from avicheck.checker.interrupt import _State, check, deferred, poll


def interrupt() -> None:
    signal.raise_signal(signal.SIGINT)


def test_it_is_raised_when_asked_for() -> None:
    with deferred():
        interrupt()
        with pytest.raises(KeyboardInterrupt):
            poll()
        poll()


def test_it_is_raised_at_the_end_at_the_latest() -> None:
    done = []

    @deferred()
    def work() -> None:
        interrupt()
        done.append("all")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == ["all"]


def test_without_one_nothing_is_raised() -> None:
    with deferred():
        poll()


def test_it_is_raised_at_once_afterwards() -> None:
    with deferred():
        pass
    with pytest.raises(KeyboardInterrupt):
        interrupt()


def test_another_error_is_not_hidden_and_the_handler_is_back() -> None:
    usual = signal.getsignal(signal.SIGINT)
    with pytest.raises(ValueError, match="own"), deferred():
        raise ValueError("own")
    assert signal.getsignal(signal.SIGINT) is usual


def test_other_threads_leave_signals_alone() -> None:
    usual, seen = signal.getsignal(signal.SIGINT), []

    def work() -> None:
        with deferred():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [usual]


def hard(milliseconds: int) -> z3.Solver:
    """Looks for what has a given hash."""
    number = z3.BitVec("number", 64)
    mixed = number
    for _ in range(24):
        mixed = mixed * 0x5851F42D4C957F2D + 0x14057B7EF767814F
        mixed = mixed ^ z3.LShR(mixed, 29) ^ (mixed << 7)
    solver = z3.SimpleSolver()
    solver.set("ctrl_c", False)
    solver.set("timeout", milliseconds)
    solver.add(mixed == 0x123456789ABCDEF0)
    return solver


def test_z3_is_ended() -> None:
    solver = hard(30_000)
    timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))

    @deferred()
    def ask() -> object:
        timer.start()
        try:
            return check(solver)
        finally:
            timer.cancel()

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        ask()
    assert time.monotonic() - began < 25


class Done:
    """A solver that is told to stop when it has just done so."""

    def check(self) -> object:
        os.kill(os.getpid(), signal.SIGINT)
        while not _State.told:
            time.sleep(0.001)
        time.sleep(0.05)
        return z3.sat


def test_z3_answers_right_afterwards() -> None:
    with pytest.raises(KeyboardInterrupt), deferred():
        check(Done())
    assert check(hard(200)) == z3.unknown
