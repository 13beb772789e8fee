"""Ctrl-C and other signals that end a program: what each part of it does then.

A KeyboardInterrupt at any place can be lost inside a library, or leave work half done. So a
training looks at its signals between two slices of work (`Signals`), and what has nothing to lose
ends where it is (`ending_at_once`).
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, NoReturn

PATIENCE = 0.15  # seconds for which output may block once a signal was received

_said_interrupted = False
_before_the_end: list[Callable[[], None]] = []
_may_block = False  # the main thread is where output may wait for its reader


class Blocked(OSError):
    """Output that nobody took, given up because a signal was received."""

    def __init__(self) -> None:
        super().__init__("nobody reads it")


@contextmanager
def output_that_may_block() -> Iterator[None]:
    """Within it `Blocked` is raised if a signal is received, or was, and the output does not end.

    Otherwise a signal would have no effect: Python goes on with an interrupted system call when
    the signal's handler returns.
    """
    global _may_block
    if threading.current_thread() is not threading.main_thread():  # which gets all signals
        yield
        return
    try:
        _may_block = True
        yield
    finally:
        _may_block = False


class Signals:
    """Within it SIGINT, SIGTERM and SIGHUP only set `received`, if they are not ignored.

    Parameters
    ----------
    can_save : bool
        Whether SIGUSR1, where there is one, sets `save`, unless the program uses it otherwise.

    Attributes
    ----------
    received : int or None
        The first of these signals since the context was entered.
    save : bool
        Whether SIGUSR1 was received; who saves resets it.
    """

    def __init__(self, can_save: bool = False) -> None:
        self._can_save = can_save

    def __enter__(self) -> Signals:
        self.received: int | None = None
        self.save = False
        self._before: dict[int, Any] = {}
        self._alarm: Any = None
        if threading.current_thread() is threading.main_thread():  # elsewhere Python allows none
            for name in ("SIGINT", "SIGTERM", "SIGHUP"):
                number = getattr(signal, name, None)  # Windows has no SIGHUP
                # None: a handler that is not Python's, which could not be put back.
                if number and signal.getsignal(number) not in (signal.SIG_IGN, None):
                    self._before[number] = signal.signal(number, self._receive)
            number = getattr(signal, "SIGUSR1", None)
            ours = (signal.SIG_DFL, _nothing_to_save)
            if self._can_save and number and signal.getsignal(number) in ours:
                self._before[number] = signal.signal(number, self._ask_to_save)
        return self

    def _ask_to_save(self, number: int, frame: FrameType | None) -> None:
        self.save = True

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            return
        self.received = number
        if not hasattr(signal, "setitimer"):
            self._give_up(number, frame)
        elif signal.getsignal(signal.SIGALRM) is not None:
            # From now on again and again: output may block after the signal, too.
            handler = signal.signal(signal.SIGALRM, self._give_up)
            self._alarm = handler, *signal.setitimer(signal.ITIMER_REAL, PATIENCE, PATIENCE)

    def _give_up(self, number: int, frame: FrameType | None) -> None:
        if _may_block:
            raise Blocked

    def __exit__(self, *exception: object) -> None:
        if self._alarm is not None:
            handler, delay, interval = self._alarm
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, handler)
            signal.setitimer(signal.ITIMER_REAL, delay, interval)
        for number, handler in self._before.items():
            signal.signal(number, handler)


@contextmanager
def interrupting_once() -> Iterator[None]:
    """Within it the first Ctrl-C raises KeyboardInterrupt, and the next ends the process."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, _end)
        raise KeyboardInterrupt

    with _on_interrupt(interrupt):
        yield


@contextmanager
def ending_at_once() -> Iterator[None]:
    """Within it Ctrl-C ends the process where it is, unless a training looks at the signal itself.

    Raised inside the compiler a KeyboardInterrupt may get lost; and while another thread compiles,
    it would be long until this one ends.
    """
    with _on_interrupt(_end):
        yield


@contextmanager
def before_the_end(act: Callable[[], None]) -> Iterator[None]:
    """Within it `act` is called first if a signal ends the process where it is.

    Only SIGUSR1 does not end it: it asks for a checkpoint, and there is nothing to save yet.
    """
    handlers = {"SIGTERM": _end, "SIGHUP": _end, "SIGUSR1": _nothing_to_save}
    taken = []
    if threading.current_thread() is threading.main_thread():  # elsewhere Python allows none
        for name, handler in handlers.items():
            number = getattr(signal, name, None)  # Windows has not all of them
            if number and signal.getsignal(number) == signal.SIG_DFL:
                signal.signal(number, handler)
                taken.append(number)
    _before_the_end.append(act)
    try:
        yield
    finally:
        _before_the_end.remove(act)
        for number in taken:
            signal.signal(number, signal.SIG_DFL)


@contextmanager
def _on_interrupt(handler: Callable[[int, FrameType | None], Any]) -> Iterator[None]:
    before = signal.getsignal(signal.SIGINT)
    if before in (signal.SIG_IGN, None):
        yield
        return
    signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def say_interrupted() -> None:
    """Say it on standard error, once however many signals come."""
    global _said_interrupted
    if not _said_interrupted:
        _said_interrupted = True
        # Not through sys.stderr: a signal may have interrupted it in the middle of a line.
        with suppress(OSError):
            _write_if_ready(2, b"Interrupted.\n")


def _end(number: int, frame: FrameType | None) -> NoReturn:
    if number == signal.SIGINT:
        say_interrupted()
    for act in _before_the_end:
        act()
    os._exit(128 + number)


def _nothing_to_save(number: int, frame: FrameType | None) -> None:
    pass


def _write_if_ready(descriptor: int, line: bytes) -> None:
    if sys.platform != "win32":
        import select

        if not select.select([], [descriptor], [], 0)[1]:
            return  # its reader sleeps
    os.write(descriptor, line)
