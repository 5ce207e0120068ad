"""Treated images on their way into one file, in parts that survive a kill.

A part is a file of the bytes of some hundred images, one after the other; what is finished is noted in `parts.jsonl`.
An HDF5 file that is killed while it is written is lost whole, so it is written at the end, from the parts.
"""

import errno
import fcntl
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from h5py import h5d, h5p, h5s, h5t
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from tqdm import tqdm

from ssl_isic.config import flat
from ssl_isic.data.preparing.treatment import Treated
from ssl_isic.data.shard_index import file_fault
from ssl_isic.errors import InputError
from ssl_isic.files import atomic_write, sha256_of

NOTES_NAME = "parts.jsonl"
HDF5_BYTES_AN_IMAGE = 600
"""What HDF5 itself takes for a dataset, its name and its place in the tree, at most."""


class Plan(BaseModel):
    """What is to be written. Parts of another plan are not gone on from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    images: int
    ids_sha256: str
    inputs: dict[str, str]
    """Size and time of change of each file, and the hash of each table."""
    settings: dict[str, Any]

    def difference(self, other: "Plan") -> str | None:
        """The first thing in which another plan differs, said of both; None where nothing does."""
        pairs = {"images": (self.images, other.images), "the ids": (self.ids_sha256[:12], other.ids_sha256[:12])}
        for here, there in ((flat(self.settings), flat(other.settings)), (self.inputs, other.inputs)):
            pairs |= {key: (here.get(key), there.get(key)) for key in here.keys() | there.keys()}
        for key, (ours, theirs) in sorted(pairs.items()):
            if ours != theirs:
                return f"{key}={theirs}, this one has {key}={ours}"
        return None


class Part(BaseModel):
    """A finished part: its file, and for each image its bytes (0: left out), what was done to it, and its fault."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    size_bytes: int
    sha256: str
    sizes: list[int]
    changes: list[str]
    faults: list[str]


class Spool:
    """The parts in a folder, those that are whole: the images of a plan in order, from the first on.

    Raises:
        InputError: the folder holds parts of another plan.
    """

    def __init__(self, folder: Path, plan: Plan) -> None:
        self.folder = folder
        self.parts = self._whole(plan)
        for left in folder.glob(".part-*"):  # of a writing that was killed
            left.unlink()
        with atomic_write(folder / NOTES_NAME) as temporary:
            lines = (plan, *self.parts)
            temporary.write_text("".join(f"{line.model_dump_json()}\n" for line in lines), encoding="utf-8")

    def __len__(self) -> int:
        return sum(len(part.sizes) for part in self.parts)

    def add(self, images: Sequence[Treated]) -> None:
        """Write the next part, and note it once it is on the disk."""
        path = self.folder / f"part-{len(self.parts):06d}.bin"
        with atomic_write(path) as temporary:
            with temporary.open("wb") as file:
                file.writelines(image.data for image in images if image.data is not None)
            size, digest = temporary.stat().st_size, sha256_of(temporary)
        part = Part(
            name=path.name,
            size_bytes=size,
            sha256=digest,
            sizes=[len(image.data or b"") for image in images],
            changes=[image.change for image in images],
            faults=[image.fault for image in images],
        )
        with (self.folder / NOTES_NAME).open("a", encoding="utf-8") as notes:
            notes.write(f"{part.model_dump_json()}\n")
            notes.flush()
            os.fsync(notes.fileno())
        self.parts.append(part)

    @property
    def changes(self) -> list[str]:
        """What was done to each image so far, "" for nothing."""
        return [change for part in self.parts for change in part.changes]

    @property
    def faults(self) -> list[str]:
        """Why each image so far is left out, "" where it is not."""
        return [fault for part in self.parts for fault in part.faults]

    def images(self) -> Iterator[bytes]:
        """The bytes of each image in turn, b"" for one that is left out."""
        for part in self.parts:
            with (self.folder / part.name).open("rb") as file:
                for size in part.sizes:
                    yield file.read(size)

    def remove(self) -> None:
        """Delete the folder: what it holds is in the file."""
        shutil.rmtree(self.folder)

    def _whole(self, plan: Plan) -> list[Part]:
        notes = self.folder / NOTES_NAME
        if not notes.exists():
            return []
        first, *rest = [line for line in notes.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
        difference = plan.difference(Plan.model_validate_json(first))
        if difference:
            raise InputError(
                f"{self.folder} is of an unfinished prepare with {difference}; delete it, or name another out"
            )
        whole: list[Part] = []
        for part in map(Part.model_validate_json, rest):
            path = self.folder / part.name
            if not path.exists() or file_fault(path, part.size_bytes, part.sha256):
                break
            whole.append(part)
        return whole


@contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Make `folder`, and hold it against a second process that would write there too.

    Raises:
        InputError: another holds it, or it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "lock").open("w")
    except OSError as error:
        raise InputError(f"cannot write {folder}: {error.strerror}; choose another out") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"another prepare is writing to {folder}; wait for it, or name another out") from None
        yield


def write_hdf5(path: Path, ids: NDArray[np.bytes_], spool: Spool) -> None:
    """Write the images of `spool` that were not left out under their `ids` (N,), as opaque scalars, which keep every byte.

    Raises:
        OSError: the disk is full (`filename` says where).
    """
    needed = sum(part.size_bytes for part in spool.parts) + HDF5_BYTES_AN_IMAGE * len(spool)
    if shutil.disk_usage(path.parent).free < needed:  # h5py does not always survive a disk that fills up
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
    layout = h5p.create(h5p.DATASET_CREATE)
    layout.set_obj_track_times(False)  # the same images give the same bytes
    scalar = h5s.create(h5s.SCALAR)
    with atomic_write(path) as temporary, h5py.File(temporary, "w") as file:
        images = zip(ids.tolist(), spool.images(), strict=True)
        for name, data in tqdm(images, total=len(ids), desc="writing", unit="image", unit_scale=True):
            if data:  # file.create_dataset does the same in thrice the time
                value = np.array(np.void(data))
                kind = h5t.py_create(value.dtype)
                h5d.create(file.id, name, kind, scalar, dcpl=layout).write(h5s.ALL, h5s.ALL, value, kind)
