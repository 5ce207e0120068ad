"""An array in memory that this process shares with the workers it starts."""

import multiprocessing
from math import prod
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray


class SharedArray:
    """Zeros at first; what one of the processes writes, all of them read. No worker holds a copy, and none grows by it.

    Works by fork and by spawn. Nothing but the start of a worker may pickle it.
    """

    def __init__(self, shape: tuple[int, ...], dtype: DTypeLike) -> None:
        self._shape, self._dtype = shape, np.dtype(dtype)
        self._memory: Any = multiprocessing.RawArray("b", prod(shape) * self._dtype.itemsize)
        self.values = self._mapped()

    def _mapped(self) -> NDArray[Any]:
        return np.frombuffer(self._memory, self._dtype).reshape(self._shape)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "values"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.values = self._mapped()
