"""An array in memory that this process shares with the workers it starts."""

import os
from math import prod
from multiprocessing import reduction
from multiprocessing.heap import Arena, reduce_arena
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

SMALL_SHARE = 1 / 64
"""Of what is free in shared memory: that much may be taken without asking. Several ranks look at the same time."""


class _DiskArena(Arena):
    """Memory that is mapped from a file in the temporary folder."""

    _dir_candidates: list[str] = []


reduction.register(_DiskArena, reduce_arena)


class SharedArray:
    """What one of the processes writes, all of them read. No worker holds a copy, and none grows by it.

    Works by fork and by spawn. Nothing but the start of a worker may pickle it. It is `multiprocessing.RawArray` without
    its zeros: what it holds at first is not said, and of a small one what is never written to takes no memory.
    """

    def __init__(self, shape: tuple[int, ...], dtype: DTypeLike) -> None:
        self._shape, self._dtype = shape, np.dtype(dtype)
        self._memory = _shared(prod(shape) * self._dtype.itemsize)
        self.values = self._mapped()

    def _mapped(self) -> NDArray[Any]:
        return np.frombuffer(self._memory.buffer, self._dtype, prod(self._shape)).reshape(self._shape)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "values"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.values = self._mapped()


def _shared(size: int) -> Arena:
    """Memory of `size` bytes or more: shared memory where it has room, which is then really there, else a file on a disk.

    A file in shared memory is sparse: it can be made far larger than what is free, also by several processes at a time,
    and who then writes where nothing is left is killed by SIGBUS.
    """
    arena = Arena(max(1, size))
    try:
        space = os.statvfs(arena.fd)
        if size > SMALL_SHARE * space.f_bavail * space.f_frsize and hasattr(os, "posix_fallocate"):  # macOS has none
            os.posix_fallocate(arena.fd, 0, arena.size)
    except OSError:
        return _DiskArena(max(1, size))
    return arena


def shared_zeros(shape: tuple[int, ...], dtype: DTypeLike) -> SharedArray:
    """Such an array of zeros."""
    array = SharedArray(shape, dtype)
    array.values[...] = 0
    return array
