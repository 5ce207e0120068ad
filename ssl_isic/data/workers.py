"""The processes that read and augment images: how many, how they start and end, and that each keeps to one thread."""

import os
import platform
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from multiprocessing import resource_tracker
from typing import Any, Literal

import cv2
from pydantic import Field
from threadpoolctl import threadpool_limits

from ssl_isic.config import Config, Workers

_WAITS_FOR_SIGNALS = hasattr(signal, "sigwaitinfo")  # macOS has none
StartMethod = Literal["fork", "spawn", "forkserver"]
Decode = Literal["reduced", "full"]


class LoaderConfig(Config):
    """The processes that read and augment images."""

    workers: Workers = 2
    """Processes a rank; 0 reads in the training process."""
    start_method: StartMethod = "spawn" if platform.system() == "Darwin" else "fork"
    """How workers start; `fork` is not safe on macOS."""
    prefetch: int = Field(4, ge=1)
    """Batches that each worker makes ahead."""
    decode: Decode = "reduced"
    """`reduced` decodes a JPEG at 1/2, 1/4 or 1/8 where no view would have to be enlarged for it; `full` never does."""


def worker_options(loader: LoaderConfig) -> dict[str, Any]:
    """The keyword arguments of a DataLoader that concern its processes."""
    if loader.workers == 0:
        cv2.setNumThreads(0)
        return {"num_workers": 0}
    return {
        "num_workers": loader.workers,
        "prefetch_factor": loader.prefetch,
        "multiprocessing_context": loader.start_method,
        "worker_init_fn": partial(_start_worker, os.getpid()),
    }


@contextmanager
def started_by(method: StartMethod) -> Iterator[None]:
    """The processes that are started within this hold SIGTERM back in all of their threads, from the first instruction on.

    A process that is not forked has threads of BLAS before a line of ours runs in it.
    """
    if not _WAITS_FOR_SIGNALS:
        yield
        return
    if method != "fork":
        resource_tracker.ensure_running()  # it would let go of SIGTERM when it starts with them
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start_worker(trainer: int, _: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the loop decides when workers end
    if _WAITS_FOR_SIGNALS:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_end_at_the_word_of, args=(trainer,), daemon=True).start()
    use_one_thread()


def use_one_thread() -> None:
    """Keep OpenCV and BLAS from starting threads of their own: workers fill the cores by their number.

    torch's DataLoader sees to torch's.
    """
    cv2.setNumThreads(0)
    threadpool_limits(1)


def _end_at_the_word_of(trainer: int) -> None:
    """End this worker at the training process's SIGTERM, but not at torchrun's or SLURM's, who signal the whole group."""
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != trainer:
        pass
    os._exit(0)
