"""A worker keeps to one thread, whatever the training process does, and its death is told in one line."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info, threadpool_limits

from ssl_isic.data.parcels import Packing, parcels
from ssl_isic.data.workers import LoaderConfig
from ssl_isic.errors import command


@pytest.fixture
def many_threads() -> Iterator[None]:
    """Three threads for OpenCV, torch and BLAS."""
    before = cv2.getNumThreads(), torch.get_num_threads()
    cv2.setNumThreads(3)
    torch.set_num_threads(3)
    with threadpool_limits(3):
        yield
    cv2.setNumThreads(before[0])
    torch.set_num_threads(before[1])


@pytest.mark.parametrize("method", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
@pytest.mark.usefixtures("many_threads")
def test_a_worker_has_one_thread_of_each_library(method: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent)  # a spawned worker is told the path
    counts = import_module("thread_counts").ThreadCounts()
    assert max(pool["num_threads"] for pool in threadpool_info()) == torch.get_num_threads() == cv2.getNumThreads() == 3
    (answer,) = parcels(counts, 3, LoaderConfig(workers=1, start_method=method), sampler=[0], batch_size=1)
    assert answer.numbers["threads"].tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    "method", ["fork", *(pytest.param(method, marks=pytest.mark.slow) for method in ("spawn", "forkserver"))]
)
def test_a_worker_outlives_what_is_sent_to_the_whole_group_and_ends_at_its_trainers_word(
    method: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Threads of BLAS, which a spawned worker has before a line of ours runs in it, hold SIGTERM back, too."""
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "4")
    monkeypatch.syspath_prepend(Path(__file__).parent)
    counts = import_module("thread_counts").ThreadCounts()
    loader = LoaderConfig(workers=1, start_method=method, prefetch=1)
    batches = parcels(counts, 3, loader, sampler=list(range(12)), batch_size=1)
    pids = {int(next(batches).numbers["pid"][0])}
    subprocess.run(["kill", "-TERM", str(*pids)], check=True)
    pids |= {int(batch.numbers["pid"][0]) for batch in batches}
    assert len(pids) == 1
    assert signal.SIGTERM not in signal.pthread_sigmask(signal.SIG_BLOCK, [])
    waiting = parcels(counts, 3, loader, sampler=list(range(12)), batch_size=1)
    (pid,) = next(waiting).numbers["pid"].tolist()
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + 30
    while _is_running(pid):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
    except FileNotFoundError:
        return False
    return state != "Z"


class Dying:
    """Batches, the third of which kills its worker."""

    def pack(self, rows: list[int], packing: Packing) -> Any:
        if rows[0] == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        packing.put(0, [np.zeros((1, 1, 3), np.uint8)])
        return packing.sealed({})


def test_a_worker_that_is_killed_is_told_in_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    @command
    def stage(_: Sequence[str]) -> None:
        list(parcels(Dying(), 3, LoaderConfig(workers=1), sampler=list(range(9)), batch_size=1))

    assert stage([]) == 2
    errors = capfd.readouterr().err
    assert errors.count("\n") == 1
    assert errors.startswith("ssl-isic: a loading process ended (")  # torch hears of it in one of two ways
    assert "memory may have run out; lower data.workers or data.prefetch" in errors


@pytest.mark.parametrize(("signal_name", "cause"), [("Bus error", "/dev/shm"), ("Killed", "memory may have run out")])
def test_the_line_says_what_may_be_the_cause(signal_name: str, cause: str, capsys: pytest.CaptureFixture[str]) -> None:
    @command
    def stage(_: Sequence[str]) -> None:
        raise RuntimeError(f"DataLoader worker (pid 12) is killed by signal: {signal_name}. It is possible that")

    assert stage([]) == 2
    assert cause in capsys.readouterr().err


def test_another_error_keeps_its_traceback() -> None:
    @command
    def stage(_: Sequence[str]) -> None:
        raise RuntimeError("ours")

    with pytest.raises(RuntimeError, match="ours"):
        stage([])
