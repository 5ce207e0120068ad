"""Every image of a pool read once, into a record of fixed size and a small copy.

They are 125 and 1,024 bytes: 400,000 images take 460 MB on the disk, of which 50 MB have to be in memory. Both follow the
pool's order.
"""

import hashlib
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from ssl_isic.data.decoding import ImageDecodeError, decode_rgb
from ssl_isic.data.images import ImagePool
from ssl_isic.data.kept_rows import KeptRows, Rows
from ssl_isic.data.near_duplicates import Copies, small_copy
from ssl_isic.data.source_stamps import source_stamps
from ssl_isic.data.steps.step import Image
from ssl_isic.data.store import UnreadableImage
from ssl_isic.data.workers import StartMethod, use_one_thread
from ssl_isic.evaluation.colour import COLOUR_NUMBERS, colour_numbers

SCAN_VERSION = 1
"""Raised when a record comes to hold something else, so that older scans are not taken for new ones."""
BLOCK = 256
COPY_PX = 32
COLOUR_PX = 256
"""Colour is measured on an image shrunk to this longer side, so that a photograph of 24 megapixels costs no gigabyte."""

JPEG_START, JPEG_END = b"\xff\xd8", b"\xff\xd9"
PNG_START, PNG_END = b"\x89PNG", b"IEND\xae\x42\x60\x82"


class State(IntEnum):
    """What became of an image's bytes."""

    FINE = 0
    SUSPECT = 1
    """It decodes, but the decoder complains: some of the picture may be grey."""
    TRUNCATED = 2
    """It does not decode, and its end is missing."""
    UNREADABLE = 3
    """It does not decode for another reason."""


RECORD = np.dtype(
    [
        ("state", "u1"),
        ("bytes", "<u4"),
        ("height", "<u4"),
        ("width", "<u4"),
        ("file_sha256", "u1", (32,)),
        ("pixels_sha256", "u1", (32,)),
        ("colour", "<f4", (COLOUR_NUMBERS,)),
    ]
)
"""`colour` is that of `evaluation.colour`; of an image that does not decode only `state`, `bytes` and `file_sha256` count."""
_WITH_COPY = np.dtype([*RECORD.descr, ("copy", "u1", (COPY_PX, COPY_PX))])
Records = NDArray[np.void]


class Scan(NamedTuple):
    """What was read of N images: a record each (N,), and their small copies (N, 32, 32), black where one does not decode."""

    records: Records
    copies: Copies


def scan(pool: ImagePool, folder: Path, workers: int, start_method: StartMethod) -> Scan:
    """Read each image of `pool`; all is kept in `folder`, and what an earlier scan of the same images left is taken over.

    Raises:
        InputError: a shard that cannot be fetched.
    """
    order = np.argsort(pool.shards()[0], kind="stable")  # shard by shard, where there are shards
    kept = KeptRows(folder, "scan", {"version": SCAN_VERSION, "sources": source_stamps(pool)}, len(pool), _WITH_COPY)
    done = kept.done()
    if done < len(pool):
        with kept.appending() as file, tqdm(total=len(pool), initial=done, desc="scan", unit="image") as bar:
            for block in _blocks(pool, order[done:], workers, start_method):
                file.append(block)
                bar.update(len(block))
    return _in_order(kept.read(), order)


def bytes_of(pool: ImagePool, index: int) -> bytes:
    """The compressed bytes of an image, none where they cannot be read."""
    h5py_on_damage = (TypeError, ValueError, AttributeError)
    try:
        return pool.read(index)
    except (UnreadableImage, *h5py_on_damage):
        return b""


def describe(data: bytes) -> Records:
    """The record of one image's bytes, shape (), and in it as `copy` the small copy."""
    record = np.zeros((), _WITH_COPY)
    record["bytes"] = len(data)
    record["file_sha256"] = _sha256(data)
    try:
        pixels, record["state"] = _decoded(data)
    except ImageDecodeError:
        record["state"] = State.TRUNCATED if _lacks_end(data) else State.UNREADABLE
        return record
    record["height"], record["width"] = pixels.shape[:2]
    record["pixels_sha256"] = _sha256(f"{pixels.shape}".encode(), np.ascontiguousarray(pixels))
    record["copy"] = small_copy(pixels)
    record["colour"] = colour_numbers(_shrunk(pixels))
    return record


def _in_order(rows: Rows, order: NDArray[np.int64]) -> Scan:
    """Rows that follow `order` in the pool's order; the copies stay on the disk where they follow it already."""
    records = np.empty(len(rows), RECORD)
    for name in RECORD.names or ():
        records[name][order] = rows[name]
    in_order = bool(np.all(order[1:] > order[:-1]))
    return Scan(records, rows["copy"] if in_order else rows["copy"][np.argsort(order)])


@dataclass(frozen=True)
class _Blocks(Dataset[Records]):
    """The records of `order` (M,), block by block."""

    pool: ImagePool
    order: NDArray[np.int64]

    def __len__(self) -> int:
        return -(-len(self.order) // BLOCK)

    def __getitem__(self, number: int) -> Records:
        indices = self.order[number * BLOCK : (number + 1) * BLOCK].tolist()
        return np.stack([describe(bytes_of(self.pool, index)) for index in indices])


def _blocks(pool: ImagePool, order: NDArray[np.int64], workers: int, start_method: StartMethod) -> Iterator[Records]:
    options: dict[str, Any] = {}
    if workers:
        options = {"multiprocessing_context": start_method, "worker_init_fn": _start_worker, "prefetch_factor": 2}
    else:
        use_one_thread()
    blocks = _Blocks(pool, order)
    yield from DataLoader(blocks, batch_size=None, collate_fn=_unchanged, num_workers=workers, **options)


def _start_worker(_: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the main process ends the others
    use_one_thread()


def _unchanged(block: Any) -> Any:
    return block


def _decoded(data: bytes) -> tuple[Image, State]:
    try:
        return simplejpeg.decode_jpeg(data, colorspace="RGB", strict=True), State.FINE
    except ValueError:
        return decode_rgb(data), State.SUSPECT if _complains(data) else State.FINE


def _complains(data: bytes) -> bool:
    """Whether libjpeg decodes the bytes only when its warnings are not errors. It refuses PNG, CMYK and the like outright."""
    try:
        simplejpeg.decode_jpeg(data, colorspace="RGB", strict=False)
    except ValueError:
        return False
    return True


def _lacks_end(data: bytes) -> bool:
    """Whether the bytes begin as a JPEG or PNG does and do not end as one, NULs aside."""
    body = data.rstrip(b"\0")
    return (body.startswith(JPEG_START) and not body.endswith(JPEG_END)) or (
        body.startswith(PNG_START) and not body.endswith(PNG_END)
    )


def _shrunk(pixels: Image) -> Image:
    longer = max(pixels.shape[:2])
    if longer <= COLOUR_PX:
        return pixels
    height, width = (max(1, round(side * COLOUR_PX / longer)) for side in pixels.shape[:2])
    return np.asarray(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def _sha256(*parts: Any) -> NDArray[np.uint8]:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return np.frombuffer(digest.digest(), np.uint8)
