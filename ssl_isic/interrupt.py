"""Ctrl-C, SIGTERM and the end of the launcher: noted when they come, acted on when the step is done."""

import os
import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any

import torch
from accelerate import Accelerator

ASKED_EVERY_S = 2.0
LAUNCHED = "ACCELERATE_MIXED_PRECISION"
"""Which `accelerate launch` sets in the environment of what it starts."""
LAUNCHER = os.getppid() if LAUNCHED in os.environ else None
"""The launcher's process, as long as it lives: later the parent may be whoever takes in orphans."""


class StopRequest:
    """A context in which SIGINT and SIGTERM only set `arrived`; a SIGINT after either acts as it always does.

    More SIGTERMs change nothing: SLURM and torchrun both send one, and a checkpoint takes time. Of one process,
    `accelerate launch` ends at a SIGTERM and does not pass it on: its end is taken for one.
    """

    def __init__(self) -> None:
        self._noted = False
        self._previous: dict[int, Any] = {}

    @property
    def arrived(self) -> bool:
        """Whether the run is to stop."""
        return self._noted or (LAUNCHER is not None and os.getppid() != LAUNCHER)

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore(*self._previous)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._noted = True
        self._restore(signal.SIGINT)

    def _restore(self, *numbers: int) -> None:
        for number in set(numbers) & set(self._previous):
            signal.signal(number, self._previous.pop(number))


class StopAgreement:
    """Whether any rank was asked to stop, told to all ranks at the same step.

    Asking the others makes GPUs wait, so it is done about every two seconds; with slow steps after each of them, since
    torchrun kills 30 s after it has asked.
    """

    def __init__(self, accelerator: Accelerator, step: int) -> None:
        """`step` is the last step that was taken."""
        self._accelerator, self._asked, self._asked_at, self._next = accelerator, step, time.monotonic(), step + 1

    def reached(self, arrived: bool, step: int) -> bool:
        """Whether to stop after `step`, where `arrived` says whether this rank was asked to. Every rank calls this."""
        if self._accelerator.num_processes == 1:
            return arrived
        if step < self._next:
            return False
        return self._asked_of_all(arrived, step)

    def at_the_end(self, arrived: bool, step: int) -> bool:
        """As `reached`, after the last `step`, whenever the ranks were asked last."""
        return arrived if self._accelerator.num_processes == 1 else self._asked_of_all(arrived, step)

    def _asked_of_all(self, arrived: bool, step: int) -> bool:
        now = time.monotonic()
        ours = torch.tensor([float(arrived), now - self._asked_at], device=self._accelerator.device)
        stopping, passed_s = self._accelerator.reduce(ours, reduction="sum").tolist()
        step_s = passed_s / self._accelerator.num_processes / max(1, step - self._asked)
        self._asked, self._asked_at = step, now
        self._next = step + max(1, int(ASKED_EVERY_S / max(step_s, 1e-3)))
        return bool(stopping)
