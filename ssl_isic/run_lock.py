"""One process at a time trains in a folder: two would write over each other's checkpoints."""

import fcntl
import os
from pathlib import Path
from types import TracebackType

from ssl_isic.errors import InputError

LOCK_NAME = ".lock"


class RunLock:
    """The lock of `folder`, held from here to the end of the context, or of the process however it ends.

    A file system without locks is trusted.

    Raises:
        InputError: another process holds it.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = (folder / LOCK_NAME).open("a+", encoding="utf-8")
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            self._file.seek(0)
            with self._file:
                raise InputError(
                    f"process {self._file.read().strip()} is training in {folder}; wait for it or stop it, or set another "
                    "run_dir"
                ) from None
        except OSError:
            pass
        self._file.truncate(0)
        self._file.write(f"{os.getpid()}\n")
        self._file.flush()

    def __enter__(self) -> "RunLock":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
