"""What tells the sources of a pool from others in their place: work on the same images that was killed may go on."""

import hashlib
import os
from pathlib import Path

import numpy as np

from ssl_isic.data.images import ImagePool
from ssl_isic.data.shard_store import ShardStore
from ssl_isic.data.store import JpegStore

SAMPLE = 16
"""Images whose bytes stand for those of a whole source: no gigabytes are read."""


def content_hash(store: JpegStore) -> str:
    """How many images `store` has, and hashes of its ids and of a sample of its images, or of the index of its shards.

    The same wherever its files lie, and for a folder and an HDF5 file of the same images.

    Raises:
        InputError: an image of the sample cannot be read.
    """
    if isinstance(store, ShardStore):
        return f"{len(store.ids)} ids, sha256 of their shards {store.index_sha256}"
    sample, digest = np.linspace(0, len(store.ids) - 1, SAMPLE).round().astype(int), hashlib.sha256()
    for position in np.unique(sample).tolist():
        digest.update(hashlib.sha256(store.read(position)).digest())
    return f"{len(store.ids)} ids, sha256 {store.ids_sha256}, of {SAMPLE} images {digest.hexdigest()[:16]}"


def source_stamps(pool: ImagePool) -> dict[str, str]:
    """For each source a hash that changes when its ids or its files do, without reading them."""
    return {name: _stamp(store) for name, store in zip(pool.names, pool.stores, strict=True)}


def _stamp(store: JpegStore) -> str:
    digest = hashlib.sha256(store.ids.tobytes())
    if isinstance(store, ShardStore):
        digest.update(store.index_sha256.encode())
        return digest.hexdigest()
    digest.update(files_stamp(Path(store.path)).encode())
    return digest.hexdigest()


def files_stamp(path: Path) -> str:
    """A hash that changes when the file `path`, or one in the folder `path`, is another or is written to."""
    digest = hashlib.sha256()
    for file in sorted(found for found in path.rglob("*") if found.is_file()) if path.is_dir() else [path]:
        stat = file.stat()
        digest.update(os.fsencode(file.relative_to(path)) + f" {stat.st_size} {stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()
