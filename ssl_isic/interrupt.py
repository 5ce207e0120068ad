"""Ctrl-C, SIGTERM and the end of the launcher: noted when they come, acted on when the step is done."""

import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any

LAUNCHED = "ACCELERATE_MIXED_PRECISION"
"""Which `accelerate launch` sets in the environment of what it starts."""


class StopRequest:
    """A context in which the first SIGINT or SIGTERM only sets `arrived`; a second one acts as it always does.

    Of one process, `accelerate launch` ends at a SIGTERM and does not pass it on: its end is taken for one.
    """

    def __init__(self) -> None:
        self._noted = False
        self._launcher = os.getppid() if LAUNCHED in os.environ else None
        self._previous: dict[int, Any] = {}

    @property
    def arrived(self) -> bool:
        """Whether the run is to stop."""
        return self._noted or (self._launcher is not None and os.getppid() != self._launcher)

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._noted = True
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()
