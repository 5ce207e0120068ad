"""One process at a time trains in a folder: two would write over each other's checkpoints."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from types import TracebackType
from typing import IO

from accelerate import Accelerator

from ssl_isic.errors import InputError
from ssl_isic.refusals import refused_on_all

LOCK_NAME = ".lock"


class RunLock:
    """The lock of `folder`, held from here to the end of the context, or of the process however it ends.

    A folder that is made for it, and is empty in the end, goes with it. A file system without locks is trusted.

    Raises:
        InputError: another process holds it.
    """

    def __init__(self, folder: Path) -> None:
        self._was_there = folder.exists()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"run_dir: cannot write {folder} ({error.strerror}); choose another place") from None
        self._path = folder / LOCK_NAME
        self._file = _locked(self._path)
        while not _is_at(self._file, self._path):  # whoever held it has just removed it
            self._file.close()
            self._file = _locked(self._path)
        self._file.truncate(0)
        self._file.write(f"{os.getpid()}\n")
        self._file.flush()

    def __enter__(self) -> "RunLock":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._path.unlink(missing_ok=True)
        self._file.close()
        if not self._was_there:
            with suppress(OSError):  # not empty
                self._path.parent.rmdir()


@contextmanager
def training_in(folder: Path, accelerator: Accelerator) -> Iterator[None]:
    """The lock of a run that all of the launch's processes train in, and its main process holds. Every rank enters this.

    Raises:
        InputError: as `RunLock`.
    """
    held: AbstractContextManager[object] = nullcontext()
    with refused_on_all(accelerator):
        if accelerator.is_main_process:
            held = RunLock(folder)
    with held:
        yield


def _locked(path: Path) -> IO[str]:
    file = path.open("a+", encoding="utf-8")
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        with file:
            file.seek(0)
            raise InputError(
                f"process {file.read().strip()} is training in {path.parent}; wait for it or stop it, or set another run_dir"
            ) from None
    except OSError:
        pass
    return file


def _is_at(file: IO[str], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
