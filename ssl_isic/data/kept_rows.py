"""Rows of one fixed form in a file that grows block by block: work that is killed goes on after the last whole row."""

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ssl_isic.files import write_json

Rows = NDArray[Any]


@dataclass(frozen=True)
class KeptRows:
    """`total` rows of `dtype`, each of shape `shape`, in NAME.bin, and in NAME.json the `plan` that they follow from."""

    folder: Path
    name: str
    plan: Mapping[str, Any]
    total: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...] = ()

    @property
    def path(self) -> Path:
        """Where the rows are."""
        return self.folder / f"{self.name}.bin"

    def done(self) -> int:
        """How many whole rows of this plan are there; none of another plan."""
        plan = self.folder / f"{self.name}.json"
        if not (plan.exists() and self.path.exists()) or json.loads(plan.read_text(encoding="utf-8")) != self.plan:
            return 0
        return min(self.total, self.path.stat().st_size // self._row_bytes)

    @contextlib.contextmanager
    def appending(self) -> Iterator["Appending"]:
        """Open the file behind its last whole row; where it follows another plan, it is begun anew."""
        done = self.done()
        self.folder.mkdir(parents=True, exist_ok=True)
        if not done:
            self.path.unlink(missing_ok=True)  # first, or a kill here would leave old rows under the new plan
            write_json(self.folder / f"{self.name}.json", dict(self.plan))
        with self.path.open("ab") as file:
            file.truncate(done * self._row_bytes)
            yield Appending(file)

    def forget(self) -> None:
        """Remove the rows and their plan, and the folder if nothing else is in it."""
        self.path.unlink(missing_ok=True)
        (self.folder / f"{self.name}.json").unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.folder.rmdir()

    def read(self) -> Rows:
        """All rows (total, *shape), from the disk as they are used.

        Raises:
            ValueError: not all are there.
        """
        if self.done() < self.total:
            raise ValueError(f"{self.path} holds {self.done()} of {self.total} rows")
        return np.memmap(self.path, self.dtype, mode="r", shape=(self.total, *self.shape))

    @property
    def _row_bytes(self) -> int:
        return self.dtype.itemsize * int(np.prod(self.shape, dtype=np.int64))


@dataclass(frozen=True)
class Appending:
    """A file of rows that is being written."""

    file: IO[bytes]

    def append(self, rows: Rows) -> None:
        """Add `rows` and have them on the disk."""
        self.file.write(np.ascontiguousarray(rows).tobytes())
        self.file.flush()
        os.fsync(self.file.fileno())
