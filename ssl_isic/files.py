"""Files that are never half-written: a temporary name in the same folder, then a rename."""

import errno
import hashlib
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from ssl_isic.errors import InputError

NEARLY_FULL_BYTES = 16 << 20


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield an empty file beside `path` to write to; it becomes `path` when the block ends, or goes if that raises.

    Missing folders are made. The yielded name keeps the suffix of `path`, by which writers choose a format.

    Raises:
        InputError: `path` is a folder, or its folder cannot be written to.
        OSError: the disk is full (`filename` says where); the old file stands.
    """
    if path.is_dir():
        raise InputError(f"cannot write {path}: it is a folder; name a file")
    temporary = _empty_file_beside(path)
    try:
        yield temporary
        flush_to_disk(temporary)
        os.replace(temporary, path)
    except OSError as error:
        error.filename = error.filename or str(path)  # a failed write() does not know its file
        raise
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, obj: Any) -> None:
    """Write `obj` as indented JSON, atomically.

    Raises:
        TypeError, ValueError: `obj` is not JSON (a NaN is not); nothing is written.
    """
    text = json.dumps(obj, indent=2, allow_nan=False, ensure_ascii=False)
    with atomic_write(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


@contextmanager
def full_disk_named(folder: Path) -> Iterator[None]:
    """Turn the several ways in which writers report a full disk into one OSError; remove the half-written `folder`."""
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        full = "No space left" in str(error) or shutil.disk_usage(folder).free < NEARLY_FULL_BYTES
        shutil.rmtree(folder, ignore_errors=True)
        if full:
            raise OSError(errno.ENOSPC, "No space left on device", str(folder.parent)) from error
        raise


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """Yield an empty folder beside `folder` to write into; it becomes `folder` when the block ends, or goes if that raises.

    Raises:
        OSError: the disk is full (`filename` says where); the old folder stands.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as scratch:
        new = Path(scratch) / "new"
        new.mkdir()
        with full_disk_named(new):
            yield new
        if folder.exists():
            os.replace(folder, Path(scratch) / "old")
        os.replace(new, folder)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def holds_work(run_dir: Path) -> bool:
    """Whether a run has saved what it would go on from: weights, its own or a checkpoint's, or scores of a pool.

    One that has not may be replaced by another.
    """
    return any(any(run_dir.rglob(name)) for name in ("model.safetensors", "checkpoints/step-*", "pool.csv"))


def _empty_file_beside(path: Path) -> Path:
    temporary = path.with_name(f".part-{secrets.token_hex(4)}-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch(exist_ok=False)  # and not mkstemp, whose files nobody else may read
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise InputError(f"cannot write {path}: {error.strerror}; choose another place") from error
    return temporary


def flush_to_disk(path: Path) -> None:
    """Have a file, or the names in a folder, outlast a machine that goes down."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
