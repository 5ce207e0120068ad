"""A folder of JPEG or PNG files as a store."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.context import get_spawning_popen
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from ssl_isic.data.shared_array import SharedArray
from ssl_isic.data.store import JpegStore, UnreadableImage, changed
from ssl_isic.errors import InputError

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png"}


def is_litter(name: str) -> bool:
    """Whether a file is what macOS leaves in zips and on other disks."""
    return name.startswith("__MACOSX/") or PurePosixPath(name).name.startswith("._")


class FolderStore(JpegStore):
    """A folder of JPEG or PNG files, at any depth; the id is the file's name without its suffix."""

    path: Path

    def __init__(self, path: Path) -> None:
        self.path = path
        found = [file for file in path.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES]
        files = [file for file in found if not is_litter(file.relative_to(path).as_posix())]
        if not files:
            tar = next(path.glob("*.tar"), None)
            shards = (
                f"; {tar.name} is read only with the shards.json that `ssl-isic shards` writes beside it" if tar else ""
            )
            raise InputError(f"{path} holds no .jpg, .jpeg or .png files{shards}")
        try:
            names = [str(file.relative_to(path)).encode() for file in files]
        except UnicodeEncodeError as error:
            raise InputError(f"{path}: the name of {error.object!r} is not UTF-8; rename the file") from None
        ids = np.array([file.stem.encode() for file in files])
        order = np.argsort(ids, kind="stable")
        self.ids = ids[order]
        self._files = np.array(names)[order]
        repeated = np.flatnonzero(self.ids[1:] == self.ids[:-1])
        if len(repeated):
            first, second = (self._files[repeated[0] + step].decode() for step in (0, 1))
            raise InputError(f"{path}: {first} and {second} have the same id; give each image one file")
        self._ends = np.empty(0, np.int64)
        """Where the bytes of each image end among those that are held, (N,)."""
        self._held: SharedArray | None = None

    def read(self, position: int) -> bytes:
        if self._held is None:
            return self._read_file(position)
        start = int(self._ends[position - 1]) if position else 0
        return bytes(self._held.values[start : self._ends[position]].tobytes())

    def size_bytes(self) -> int:
        """Memory that holding it takes."""
        return sum(map(self._size, range(len(self.ids))))

    def hold(self, advance: Callable[[int], object]) -> None:
        """Copy all bytes into shared memory, and read from there from now on; `advance` is told how many are done.

        Raises:
            InputError: a file that cannot be read, or changes meanwhile.
        """
        sizes = np.array([self._size(position) for position in range(len(self.ids))])
        ends = np.cumsum(sizes)
        held = SharedArray((int(ends[-1]),), np.uint8)
        for position, (end, size) in enumerate(zip(ends.tolist(), sizes.tolist(), strict=True)):
            data = self._read_file(position)
            if len(data) != size:
                raise changed(self._file(position))
            held.values[end - size : end] = np.frombuffer(data, np.uint8)
            advance(size)
        self._ends, self._held = ends, held

    def _file(self, position: int) -> Path:
        return self.path / str(self._files[position].decode())

    def _size(self, position: int) -> int:
        with self._named(position):
            return self._file(position).stat().st_size

    def _read_file(self, position: int) -> bytes:
        with self._named(position):
            return self._file(position).read_bytes()

    @contextmanager
    def _named(self, position: int) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UnreadableImage(
                f"cannot read {self._file(position)} ({error.strerror}); mend it or take it away"
            ) from None

    def __getstate__(self) -> dict[str, Any]:
        # a copy is no worker, and shares nothing
        return self.__dict__ if get_spawning_popen() is not None else {**self.__dict__, "_held": None}
