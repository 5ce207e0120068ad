"""What a store of compressed images is, whatever it reads from."""

from abc import ABC, abstractmethod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.bytes_]
"""Sorted identifiers as fixed-width bytes: 400,000 of them take 5 MB where Python strings take 25."""


class JpegStore(ABC):
    """Compressed images keyed by id."""

    path: Path | str
    ids: Ids

    @abstractmethod
    def read(self, position: int) -> bytes:
        """The compressed bytes of image `ids[position]`."""
