"""What tells the sources of a pool from others in their place: work on the same images that was killed may go on."""

import hashlib
from pathlib import Path

from ssl_isic.data.images import ImagePool
from ssl_isic.data.shard_store import ShardStore
from ssl_isic.data.store import JpegStore


def source_stamps(pool: ImagePool) -> dict[str, str]:
    """For each source a hash that changes when its ids or its files do, without reading them."""
    return {name: _stamp(store) for name, store in zip(pool.names, pool.stores, strict=True)}


def _stamp(store: JpegStore) -> str:
    digest = hashlib.sha256(store.ids.tobytes())
    if isinstance(store, ShardStore):
        digest.update(store.index_sha256.encode())
        return digest.hexdigest()
    path = Path(store.path)
    for file in sorted(found for found in path.rglob("*") if found.is_file()) if path.is_dir() else [path]:
        stat = file.stat()
        digest.update(f"{file.relative_to(path)} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()
