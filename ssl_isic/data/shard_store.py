"""Images in shards as a store: in a folder, or at a URL, from which whole shards are fetched as they come up."""

import os
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from pydantic import Field

from ssl_isic.config import Config
from ssl_isic.data.remote import fetch
from ssl_isic.data.shard_cache import OpenShard, ShardCache, ShardFile
from ssl_isic.data.shard_index import INDEX_NAME, ShardIndex, file_fault, parse_index
from ssl_isic.data.store import JpegStore
from ssl_isic.errors import InputError
from ssl_isic.files import sha256_of

GB = 1_000_000_000


class ShardReading(Config):
    """How sources in shards (`ssl-isic shards`) are read."""

    window: int = Field(4, ge=1)
    """Shards in play at a time: an epoch goes through windows of so many and shuffles the images of each."""
    cache: Path = Path("~/.cache/ssl-isic")
    """Folder on a disk of this machine for shards that come from a URL; all runs may share it."""
    cache_gb: float = Field(20.0, gt=0)
    """Size of that folder, GB (a billion bytes); it holds two windows at least."""


class OpenShards:
    """The shards that this process has open, those it used last; each is verified when it is first opened."""

    def __init__(self, reading: ShardReading) -> None:
        self.cache = ShardCache(reading.cache.expanduser(), round(reading.cache_gb * GB))
        self.limit = reading.window
        self._open: dict[str, OpenShard] = {}
        self._verified: set[str] = set()
        self._pid = -1

    def open(self, location: Path | str, shard: ShardFile) -> OpenShard:
        """The shard in the folder or at the URL `location`.

        Raises:
            InputError: it is not there, cannot be fetched, or is not what the index says.
        """
        if self._pid != os.getpid():
            self.close()  # of the process that was forked, which would keep them from being removed
            self._pid = os.getpid()
        here = f"{location}/{shard.name}"
        opened = self._open.pop(here, None) or self._opened(location, shard, here)
        self._open[here] = opened
        if len(self._open) > self.limit:
            self._open.pop(next(iter(self._open)))
        return opened

    def close(self) -> None:
        """Let all shards go."""
        self._open = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": {}}

    def _opened(self, location: Path | str, shard: ShardFile, here: str) -> OpenShard:
        while True:
            path = location / shard.name if isinstance(location, Path) else self.cache.path(shard)
            try:
                if isinstance(location, str):
                    self.cache.get(here, shard)
                opened = OpenShard(path)
                fault = None if here in self._verified else file_fault(path, shard.size_bytes, shard.sha256)
            except FileNotFoundError:
                if isinstance(location, Path):
                    raise _not_there(path) from None
                continue  # another process needed the room
            except PermissionError as error:
                raise InputError(f"cannot read {path}: {error.strerror}; ask its owner") from None
            if fault is None:
                self._verified.add(here)
                return opened
            if isinstance(location, Path):
                raise _damaged(path, fault)
            self.cache.discard(shard)


class ShardStore(JpegStore):
    """The images of a `shards.json` and the tar files beside it.

    Raises:
        InputError: no index, or a damaged one; in a folder, a shard that is not there or of another size. What else may be
            wrong with a shard is found when it is read.
    """

    def __init__(self, location: Path | str, files: OpenShards) -> None:
        self.location, self._files = location, files
        index, self.index_sha256 = _read_index(location)
        self.path = location / INDEX_NAME if isinstance(location, Path) else f"{location}/{INDEX_NAME}"
        self.shards = [ShardFile(shard.name, shard.size_bytes, shard.sha256) for shard in index.shards]
        ids = np.array([name.encode() for shard in index.shards for name in shard.ids])
        order = np.argsort(ids, kind="stable")
        self.ids = ids[order]
        repeated = np.flatnonzero(self.ids[1:] == self.ids[:-1])
        if len(repeated):
            raise InputError(f"{self.path} has {self.ids[repeated[0]].decode()} twice; write it with ssl-isic shards")
        if isinstance(location, Path):
            _check_sizes(location, self.shards)
        self.shard = np.repeat(np.arange(len(index.shards)), [len(shard.ids) for shard in index.shards])[order]
        """The shard of each image, (N,)."""
        self._offset = np.concatenate([np.array(shard.offsets, np.int64) for shard in index.shards])[order]
        self._size = np.concatenate([np.array(shard.sizes, np.int64) for shard in index.shards])[order]
        self._kept: dict[int, bytes | None] = {}

    @property
    def is_remote(self) -> bool:
        """Whether whole shards are fetched through the cache."""
        return isinstance(self.location, str)

    def read(self, position: int) -> bytes:
        if position not in self._kept:
            return self._read(position)
        if self._kept[position] is None:
            for other in self._kept:
                if self.shard[other] == self.shard[position]:
                    self._kept[other] = self._read(other)
            self._files.close()
        return self._kept[position] or b""

    def keep(self, positions: Iterable[int]) -> None:
        """Keep these images in memory from the first read on: they are read again and again, and their shards are not."""
        self._kept = dict.fromkeys(positions)

    def fetch_ahead(self, position: int) -> None:
        """Have the shard of an image that will soon be read fetched in the background."""
        if isinstance(self.location, str):
            shard = self.shards[self.shard[position]]
            self._files.cache.get_ahead(f"{self.location}/{shard.name}", shard)

    def _read(self, position: int) -> bytes:
        shard = self._files.open(self.location, self.shards[self.shard[position]])
        return shard.read(int(self._offset[position]), int(self._size[position]))


def _check_sizes(folder: Path, shards: Iterable[ShardFile]) -> None:
    for shard in shards:
        path = folder / shard.name
        try:
            size = path.stat().st_size
        except FileNotFoundError:
            raise _not_there(path) from None
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror}; ask its owner") from None
        if size != shard.size_bytes:
            raise _damaged(path, f"{size} bytes where the index says {shard.size_bytes}")


def _not_there(path: Path) -> InputError:
    return InputError(f"no such file: {path}, which {INDEX_NAME} beside it names; copy it there")


def _damaged(path: Path, fault: str) -> InputError:
    return InputError(f"{path} is damaged: {fault}; copy it again, or write it with ssl-isic shards")


def _read_index(location: Path | str) -> tuple[ShardIndex, str]:
    """The index in a folder or at a URL, and its SHA-256."""
    if isinstance(location, Path):
        path = location / INDEX_NAME
        try:
            return parse_index(path.read_bytes(), path), sha256_of(path)
        except PermissionError as error:
            raise InputError(f"cannot read {path}: {error.strerror}; ask its owner") from None
    with TemporaryDirectory() as folder:
        path = Path(folder) / INDEX_NAME
        fetch(f"{location}/{INDEX_NAME}", path)
        return parse_index(path.read_bytes(), f"{location}/{INDEX_NAME}"), sha256_of(path)
