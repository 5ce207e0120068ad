"""`ssl-isic shards`: the images of an HDF5 file or a folder as shards, to be trained on from anywhere.

Images are dealt to shards at random, so that a shard is a random sample of all. The same images and settings give the same
files, byte for byte. What is finished is noted in `.shards.jsonl`, so that a writing that was killed goes on from there.
"""

import io
import os
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, TypeAdapter, ValidationError
from tqdm import tqdm

from ssl_isic.config import Config, Seed
from ssl_isic.data.images import open_store
from ssl_isic.data.shard_index import INDEX_NAME, ImageId, Plan, Shard, ShardIndex, file_fault, parse_index
from ssl_isic.data.store import JpegStore
from ssl_isic.errors import InputError
from ssl_isic.files import atomic_write, sha256_of

NOTES_NAME = ".shards.jsonl"
MB = 1_000_000


class ShardsConfig(Config):
    """Write images as shards: tar files in WebDataset's layout and an index, for pretraining over a network."""

    images: Path
    """HDF5 file or folder of images."""
    out: Path
    """Folder for the shards."""
    shard_mb: float = Field(64.0, gt=0)
    """Size of a shard, MB (a million bytes); the last one is smaller."""
    seed: Seed = 0
    """Another seed deals the images to other shards."""


def write_shards(config: ShardsConfig) -> ShardIndex:
    """Write, or finish writing, the shards and their index; finished shards are verified and kept.

    Raises:
        InputError: an id that is no WebDataset key; `out` holds other shards, or other images of the same ids.
    """
    store = open_store(config.images)
    ids = [name.decode() for name in store.ids.tolist()]
    _check_ids(ids, config.images)
    order = np.random.default_rng(config.seed).permutation(len(ids))
    plan = Plan(images=len(ids), ids_sha256=store.ids_sha256, seed=config.seed, shard_mb=config.shard_mb)
    shards = _finished(config.out, plan)
    _check_bytes(config, shards, store, order)
    for left in config.out.glob(".part-*"):  # of a writing that was killed
        left.unlink()
    notes = config.out / NOTES_NAME
    with atomic_write(notes) as temporary:
        temporary.write_text("".join(f"{line.model_dump_json()}\n" for line in (plan, *shards)), encoding="utf-8")
    done = sum(len(shard.ids) for shard in shards)
    with (
        tqdm(total=len(ids), initial=done, desc="shards", unit="image", unit_scale=True) as bar,
        notes.open("a", encoding="utf-8") as log,
    ):
        while done < len(ids):
            path = config.out / f"shard-{len(shards):05d}.tar"
            shards.append(_write_shard(path, store, order[done:], round(config.shard_mb * MB), bar))
            log.write(f"{shards[-1].model_dump_json()}\n")
            log.flush()
            os.fsync(log.fileno())
            done += len(shards[-1].ids)
    index = ShardIndex(plan=plan, shards=shards)
    with atomic_write(config.out / INDEX_NAME) as temporary:
        temporary.write_text(index.model_dump_json() + "\n", encoding="utf-8")
    notes.unlink()
    return index


def _check_ids(ids: Sequence[str], images: Path) -> None:
    try:
        TypeAdapter(list[ImageId]).validate_python(ids)
    except ValidationError as error:
        wrong = error.errors()[0]["input"]
        raise InputError(
            f"{images}: {wrong!r} is no WebDataset key: no dots or slashes, 90 bytes at most; rename the image"
        ) from None


def _finished(out: Path, plan: Plan) -> list[Shard]:
    """The shards that an earlier writing of the same plan left whole, up to the first that it did not."""
    index, notes = out / INDEX_NAME, out / NOTES_NAME
    if index.exists():
        known = parse_index(index.read_bytes(), index)
        there, shards = known.plan, known.shards
    elif notes.exists():
        first, *rest = [line for line in notes.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
        there, shards = Plan.model_validate_json(first), [Shard.model_validate_json(line) for line in rest]
    else:
        others = sorted(path.name for path in out.glob("*") if not path.name.startswith("."))
        if others:
            raise InputError(f"{out} holds {others[0]}, which is no shard of these images; name another folder as out")
        return []
    for key, wanted in plan:
        if getattr(there, key) != wanted:
            raise InputError(
                f"{out} holds shards with {key}={getattr(there, key)}, these have {key}={wanted}; "
                "name another folder as out"
            )
    whole: list[Shard] = []
    for shard in shards:
        path = out / shard.name
        if not path.exists() or file_fault(path, shard.size_bytes, shard.sha256):
            break
        whole.append(shard)
    return whole


def _check_bytes(config: ShardsConfig, shards: Sequence[Shard], store: JpegStore, order: NDArray[np.int64]) -> None:
    """Compare what finished shards hold with the images that they were made of."""
    rows = iter(order.tolist())
    for shard in shards:
        with (config.out / shard.name).open("rb") as tar:
            for name, offset, size, row in zip(shard.ids, shard.offsets, shard.sizes, rows, strict=False):
                tar.seek(offset)
                if tar.read(size) != store.read(row):
                    raise InputError(
                        f"{config.out / shard.name} holds another {name} than {config.images}; remove {config.out}, or name "
                        "another folder as out"
                    )


def _write_shard(
    path: Path, store: JpegStore, rows: NDArray[np.int64], limit_bytes: int, bar: "tqdm[NoReturn]"
) -> Shard:
    """Fill one tar with images of `store`, from the first of `rows` on, until the next does not fit."""
    ids: list[str] = []
    offsets: list[int] = []
    sizes: list[int] = []
    end = 0
    with atomic_write(path) as temporary:
        with tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as tar:
            for row in rows.tolist():
                data = store.read(row)
                padded = -(-len(data) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
                if ids and end + tarfile.BLOCKSIZE + padded > limit_bytes:
                    break
                ids.append(store.ids[row].decode())
                member = tarfile.TarInfo(ids[-1] + (".png" if data.startswith(b"\x89PNG") else ".jpg"))
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
                offsets.append(end + tarfile.BLOCKSIZE)
                sizes.append(len(data))
                end += tarfile.BLOCKSIZE + padded
                bar.update()
        size, digest = temporary.stat().st_size, sha256_of(temporary)
    return Shard(name=path.name, size_bytes=size, sha256=digest, ids=ids, offsets=offsets, sizes=sizes)
