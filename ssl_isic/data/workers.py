"""The processes that read and augment images: how many, how they start and end, and that each keeps to one thread."""

import os
import platform
import signal
import threading
from typing import Any, Literal

import cv2
from pydantic import Field
from threadpoolctl import threadpool_limits

from ssl_isic.config import Config, Workers

StartMethod = Literal["fork", "spawn", "forkserver"]


class LoaderConfig(Config):
    """The processes that read and augment images."""

    workers: Workers = 2
    """Processes a rank; 0 reads in the training process."""
    start_method: StartMethod = "spawn" if platform.system() == "Darwin" else "fork"
    """How workers start; `fork` is not safe on macOS."""
    prefetch: int = Field(4, ge=1)
    """Batches that each worker makes ahead."""
    decode: Literal["reduced", "full"] = "reduced"
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
        "worker_init_fn": _start_worker,
    }


def _start_worker(_: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the loop decides when workers end
    if hasattr(signal, "sigwaitinfo"):  # macOS has none
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_end_at_parents_word, daemon=True).start()
    use_one_thread()


def use_one_thread() -> None:
    """Keep OpenCV and BLAS from starting threads of their own: workers fill the cores by their number.

    torch's DataLoader sees to torch's.
    """
    cv2.setNumThreads(0)
    threadpool_limits(1)


def _end_at_parents_word() -> None:
    """End this worker at the training process's SIGTERM, but not at torchrun's or SLURM's, who signal the whole group."""
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)
