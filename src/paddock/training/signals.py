"""Ctrl-C and SIGTERM ask a run to stop where it can be saved; a second Ctrl-C stops it where it is."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from types import FrameType

HEEDED = (signal.SIGINT, signal.SIGTERM)


@dataclass
class Stop:
    """Whether somebody asked: `asked` is the signal's name once there was one."""

    asked: str | None = None


@contextlib.contextmanager
def heeding() -> Iterator[Stop]:
    """Notes signals while the body runs instead of dying of them.

    A second SIGINT raises KeyboardInterrupt, whatever is being done. Only a process's main thread hears of signals:
    elsewhere nothing is changed and nothing noted.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def note(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and stop.asked == "SIGINT":
            raise KeyboardInterrupt
        stop.asked = signal.Signals(number).name

    before = {number: signal.getsignal(number) for number in HEEDED}
    try:
        for number in HEEDED:
            if before[number] is not signal.SIG_IGN:  # nohup and the like: who started us wants us not to hear
                signal.signal(number, note)
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
