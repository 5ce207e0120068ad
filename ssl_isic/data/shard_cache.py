"""Shards that come from a URL, kept on this machine's disk: each is fetched once, whoever of its processes asks.

A shard is `SHA256.tar`, so runs and sources with the same shard share it. Locks are the kernel's, on files, and go with the
process that holds them, however it ends: one on `SHA256.lock` while a shard is fetched, a shared one on the shard while it
is open, which keeps it from being removed.
"""

import fcntl
import os
import re
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from ssl_isic.data.remote import fetch
from ssl_isic.data.shard_index import file_fault
from ssl_isic.errors import InputError

_SHARD = re.compile(r"[0-9a-f]{64}\.tar")
_PART = re.compile(r"([0-9a-f]{64})\.(\d+)\.part")  # what else is in the folder is not the cache's
PAUSE_S = 0.1
"""After a shard could not be fetched ahead of its use, before the next try."""


class ShardFile(NamedTuple):
    """A shard as the index has it."""

    name: str
    size_bytes: int
    sha256: str


class OpenShard:
    """A file that is read here, and not removed from the cache before this object has gone."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._descriptor)
        fcntl.flock(self._descriptor, fcntl.LOCK_SH)

    def read(self, offset: int, size: int) -> bytes:
        """`size` bytes from byte `offset` on."""
        return os.pread(self._descriptor, size, offset)


class ShardCache:
    """A folder of at most `limit_bytes`, but for what is being read or waited for at the moment."""

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self.folder, self.limit_bytes = folder, limit_bytes
        self._ahead: threading.Thread | None = None
        self._quiet_until = 0.0

    def path(self, shard: ShardFile) -> Path:
        """Where a shard is, if it is here."""
        return self.folder / f"{shard.sha256}.tar"

    def get(self, url: str, shard: ShardFile) -> None:
        """Fetch a shard if it is not here. Until it is open, another process may remove it again.

        Raises:
            InputError: it cannot be fetched, or what comes is not what the index says.
        """
        if self.path(shard).exists():
            with suppress(PermissionError):  # another user's
                os.utime(self.path(shard))  # the longest unused goes first
        else:
            self._fetch(url, shard, needed=True)

    def discard(self, shard: ShardFile) -> None:
        """Remove a shard if its file here is damaged."""
        with self._permitted(), self._locked(f"{shard.sha256}.lock"):
            path = self.path(shard)
            if path.exists() and file_fault(path, shard.size_bytes, shard.sha256):
                path.unlink()

    def get_ahead(self, url: str, shard: ShardFile) -> None:
        """Fetch a shard in the background, if it is not here, nobody is at it, and there is room."""
        busy = self._ahead is not None and self._ahead.is_alive()
        if busy or time.monotonic() < self._quiet_until or self.path(shard).exists():
            return
        self._ahead = threading.Thread(target=self._fetch_ahead, args=(url, shard), daemon=True)
        self._ahead.start()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_ahead": None}

    def _fetch_ahead(self, url: str, shard: ShardFile) -> None:
        try:
            fetched = self._fetch(url, shard, needed=False)
        except (InputError, OSError):  # whoever needs the shard will try again, and be told
            fetched = False
        if not fetched:
            self._quiet_until = time.monotonic() + PAUSE_S

    def _fetch(self, url: str, shard: ShardFile, needed: bool) -> bool:
        """Fetch a shard unless another process has done so meanwhile; whether it is here now."""
        self._make_folder()
        with self._permitted(), self._locked(f"{shard.sha256}.lock", wait=needed) as mine:
            if not mine:
                return False
            if self.path(shard).exists():
                return True
            part = self._reserve(shard, needed)
            if part is None:
                return False
            try:
                fetch(url, part, lambda path: file_fault(path, shard.size_bytes, shard.sha256))
                part.rename(self.path(shard))
            finally:
                part.unlink(missing_ok=True)
        return True

    def _reserve(self, shard: ShardFile, needed: bool) -> Path | None:
        """Remove what nobody reads, the longest unused first, until the shard fits: the file to write it to, or None."""
        with self._locked("room.lock"):
            excess = shard.size_bytes - self.limit_bytes
            for part, digest, size in self._parts():
                with self._locked(f"{digest}.lock", wait=False) as orphaned:
                    if not (orphaned or digest == shard.sha256) or not _removed(part):
                        excess += size
            shards = [(path.stat(), path) for path in self.folder.iterdir() if _SHARD.fullmatch(path.name)]
            excess += sum(stat.st_size for stat, _ in shards)
            for stat, path in sorted(shards, key=lambda pair: pair[0].st_mtime_ns):
                if excess > 0 and _is_unread(path) and _removed(path):
                    excess -= stat.st_size
            if excess > 0 and not needed:
                return None
            part = self.folder / f"{shard.sha256}.{shard.size_bytes}.part"
            part.touch()
            return part

    def _parts(self) -> Iterator[tuple[Path, str, int]]:
        """What is being fetched, or was: the file, the shard's SHA-256, and its size when it is whole."""
        for path in list(self.folder.iterdir()):
            named = _PART.fullmatch(path.name)
            if named:
                yield path, named[1], int(named[2])

    def _make_folder(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"data.shards.cache={self.folder} cannot be made: {error.strerror}; name another"
            ) from None

    @contextmanager
    def _permitted(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:  # also a disk that is full, and a file system without locks
            raise InputError(
                f"data.shards.cache={self.folder}: {error.filename or self.folder}: {error.strerror}; name another folder"
            ) from None

    @contextmanager
    def _locked(self, name: str, wait: bool = True) -> Iterator[bool]:
        """Hold the lock `name`; yields whether it is held, which without `wait` it may not be."""
        path = self.folder / name
        theirs = path.exists() and not os.access(path, os.W_OK)  # another user's, who may read it
        descriptor = os.open(path, os.O_RDONLY if theirs else os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            os.close(descriptor)
            yield False
            return
        try:
            yield True
        finally:
            fcntl.flock(descriptor, fcntl.LOCK_UN)  # a forked child may have the descriptor too
            os.close(descriptor)


def _removed(path: Path) -> bool:
    """Whether the file is gone: another user's may have to stay."""
    try:
        path.unlink(missing_ok=True)
    except PermissionError:
        return False
    return True


def _is_unread(path: Path) -> bool:
    theirs = not os.access(path, os.W_OK)
    descriptor = os.open(path, os.O_RDONLY if theirs else os.O_RDWR)  # NFS locks only what is open for writing
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True
