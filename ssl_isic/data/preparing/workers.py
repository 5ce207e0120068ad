"""Reading and treating images in several processes, in order, a bounded number ahead of who takes them."""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import cv2

from ssl_isic.data.decoding import ImageDecodeError
from ssl_isic.data.preparing.source_images import SourceImages
from ssl_isic.data.preparing.treatment import Treated, Treatment
from ssl_isic.errors import InputError

TASK_IMAGES = 16
TASKS_AHEAD = 4
"""For each process."""

_job: tuple[SourceImages, Treatment] | None = None


def treated_images(
    images: SourceImages, treatment: Treatment, start: int, workers: int
) -> Generator[Treated, None, None]:
    """Images `start` and on, treated by `workers` processes (0: this one), in order.

    Raises:
        InputError: a process was killed.
    """
    tasks = [range(first, min(first + TASK_IMAGES, len(images))) for first in range(start, len(images), TASK_IMAGES)]
    if workers == 0 or len(tasks) < 2:
        for task in tasks:
            yield from (_treat(images, treatment, position) for position in task)
        return
    spawn = multiprocessing.get_context("spawn")  # a fork would copy the threads' locks
    pool = ProcessPoolExecutor(min(workers, len(tasks)), spawn, _start_worker, (images, treatment))
    pending: deque[Future[list[Treated]]] = deque()
    try:
        for task in tasks:
            pending.append(pool.submit(_treat_all, task))
            if len(pending) > TASKS_AHEAD * workers:
                yield from pending.popleft().result()
        while pending:
            yield from pending.popleft().result()
    except BrokenProcessPool:
        raise InputError(f"a process that treats images was killed; is there memory for workers={workers}?") from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _start_worker(images: SourceImages, treatment: Treatment) -> None:
    global _job
    _job = (images, treatment)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent ends its workers
    cv2.setNumThreads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A parent that is killed cannot end its workers."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _treat_all(positions: range) -> list[Treated]:
    assert _job is not None
    return [_treat(*_job, position) for position in positions]


def _treat(images: SourceImages, treatment: Treatment, position: int) -> Treated:
    try:
        return treatment(images.read(position))
    except ImageDecodeError as error:
        return Treated(None, fault=str(error))
    except OSError as error:  # the file went, or may not be read
        return Treated(None, fault=error.strerror or str(error))
