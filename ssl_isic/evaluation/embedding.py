"""The embed stage's configuration and work: the features of images, with their ids.

`NAME.npy` holds float32 (N, D) and beside it `NAME.ids.csv` one row an image, `isic_id,readable`, in the same order.
No image loses its row: one that is missing or does not decode has zeros for features and is named by `readable=False`.
What an interrupted pass has done is kept beside the file, and the same command goes on from there.
"""

import hashlib
import importlib.util
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from accelerate import Accelerator
from numpy.typing import NDArray
from pydantic import Field

from ssl_isic.config import Side
from ssl_isic.data.cleaning import CleanNames
from ssl_isic.data.images import ImagePool
from ssl_isic.data.source_stamps import source_stamps
from ssl_isic.data.tables import match_ids, read_table
from ssl_isic.data.workers import LoaderConfig
from ssl_isic.errors import InputError
from ssl_isic.evaluation.forward import Block, forward_images
from ssl_isic.evaluation.source import BackboneSource, Embedder, fingerprint, open_backbone
from ssl_isic.evaluation.unfinished import UnfinishedRows
from ssl_isic.files import atomic_write

SOURCE = "images"
Writer = Callable[[Path, Sequence[str], Iterable[Block]], NDArray[np.bool_]]


class ReadingConfig(LoaderConfig):
    """Images to go through once, and how."""

    images: Path
    """HDF5 file or folder of images."""
    batch_size: int = Field(256, ge=1)
    """Images of one forward pass on one rank."""
    clean: CleanNames | None = None
    """What is done to each image first, in order; null does what was done when a backbone's weights were trained."""

    def cleaning_for(self, backbone: BackboneSource) -> list[str]:
        """What is done to each image before `backbone` sees it. InputError as `BackboneSource.cleaning`."""
        return backbone.cleaning() if self.clean is None else self.clean


class EmbedConfig(ReadingConfig):
    """Write the features of images, as a backbone sees them."""

    backbone: BackboneSource
    """The backbone; backbone=FOLDER is short for backbone.weights=FOLDER."""
    table: Path | None = None
    """CSV with isic_id: its ids, in its order; null takes all images, in the order of their ids."""
    image_size: Side | None = None
    """Side of the input, px; null takes the one that the weights were trained on."""
    out: Path = Path("features.npy")
    """.npy for float32 (N, D), with the ids in NAME.ids.csv; or .parquet for one table (needs the extra `parquet`)."""


def embed(config: EmbedConfig) -> None:
    """Write the features. Every rank calls this and embeds a share; the main one writes.

    Raises:
        InputError: anything wrong with the backbone, the images or the table; none of the table's ids in the images;
            features that are not finite; a place that cannot be written to.
    """
    _check_format(config.out)
    pool = ImagePool({SOURCE: config.images})
    ids, indices = _wanted(config, pool)
    image_size = config.image_size or config.backbone.image_size()
    accelerator = Accelerator()
    embedder = Embedder(open_backbone(config.backbone, image_size)).to(accelerator.device)
    cleaning = config.cleaning_for(config.backbone)
    depends_on = [fingerprint(embedder), ids, source_stamps(pool), image_size, cleaning, config.decode]
    key = hashlib.sha256(json.dumps(depends_on).encode()).hexdigest()
    unfinished = UnfinishedRows(config.out, key, accelerator)
    write = _write_parquet if config.out.suffix == ".parquet" else write_npy
    blocks = embedded(
        embedder, pool, ids, indices, image_size, config, cleaning, accelerator, unfinished, title=config.out.name
    )
    readable = write_on_main(write, config.out, ids, blocks, accelerator)
    if readable is None:
        return
    unfinished.remove()
    if not readable.any():
        for written in (config.out, ids_path(config.out)):
            written.unlink(missing_ok=True)
        raise InputError(f"none of {len(ids)} images in {config.images} is there and decodes; is the file damaged?")
    unread = [name for name, fine in zip(ids, readable, strict=True) if not fine]
    if unread:
        print(f"{len(unread)} images are missing or do not decode and have zeros, the first is {unread[0]}")
    print(f"{config.out}: {len(ids)} rows of {config.backbone.architecture()} at {image_size} px")


def embedded(
    embedder: Embedder,
    pool: ImagePool,
    ids: Sequence[str],
    indices: NDArray[np.int64],
    image_size: int,
    reading: ReadingConfig,
    cleaning: Sequence[str],
    accelerator: Accelerator,
    unfinished: UnfinishedRows,
    title: str,
) -> Iterator[Block]:
    """Yield float32 features (R, D) of `indices` (N,), cleaned, in order; zeros for an image that could not be read.

    The first rows are those that `unfinished` has, to which the others are added.

    Raises:
        InputError: features that are not finite, on every rank alike.
    """
    start = unfinished.begin()
    yield from unfinished.blocks()
    for values, readable in forward_images(
        embedder,
        pool,
        indices[start:],
        image_size=image_size,
        batch_size=reading.batch_size,
        loader=reading,
        accelerator=accelerator,
        cleaning=cleaning,
        title=title,
    ):
        values[~readable] = 0
        broken = np.flatnonzero(~np.isfinite(values).all(axis=1))
        if broken.size:
            raise InputError(f"the features of {ids[start + broken[0]]} are not finite; are the weights damaged?")
        block = Block(values, readable)
        unfinished.keep(block)
        yield block
        start += len(values)


def write_on_main(
    write: Writer, path: Path, ids: Sequence[str], blocks: Iterable[Block], accelerator: Accelerator
) -> NDArray[np.bool_] | None:
    """`write` the blocks on the main process, which is told what could be read (N,); the others only take part."""
    if accelerator.is_main_process:
        return write(path, ids, blocks)
    for _ in blocks:
        pass
    return None


def write_npy(path: Path, ids: Sequence[str], blocks: Iterable[Block]) -> NDArray[np.bool_]:
    """Write float32 (N, D) to `path` and the ids beside it, atomically, block by block; returns what could be read (N,)."""
    readable = list[NDArray[np.bool_]]()
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        for block in blocks:
            if not readable:
                header = {"descr": "<f4", "fortran_order": False, "shape": (len(ids), block.values.shape[1])}
                np.lib.format.write_array_header_1_0(file, header)
            file.write(block.values.astype("<f4").tobytes())
            readable.append(block.readable)
        with atomic_write(ids_path(path)) as named:
            pd.DataFrame({"isic_id": list(ids), "readable": _joined(readable)}).to_csv(named, index=False)
    return _joined(readable)


def ids_path(path: Path) -> Path:
    """Where the ids of the features at `path` are."""
    return path.with_name(f"{path.stem}.ids.csv")


def _write_parquet(path: Path, ids: Sequence[str], blocks: Iterable[Block]) -> NDArray[np.bool_]:
    with atomic_write(path) as temporary:
        values, readable = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
        features = pd.DataFrame(values.astype(np.float32)).add_prefix("f")
        pd.concat([pd.DataFrame({"isic_id": list(ids), "readable": readable}), features], axis=1).to_parquet(
            temporary, index=False
        )
    return np.asarray(readable, dtype=bool)


def _joined(parts: Sequence[NDArray[np.bool_]]) -> NDArray[np.bool_]:
    return np.concatenate(parts)


def _check_format(out: Path) -> None:
    if out.suffix not in (".npy", ".parquet"):
        raise InputError(f"out: cannot write {out}; name a .npy or a .parquet file")
    if out.suffix == ".parquet" and importlib.util.find_spec("pyarrow") is None:
        raise InputError('out: .parquet needs pyarrow: pip install "ssl-isic[parquet]", or name a .npy file')


def _wanted(config: EmbedConfig, pool: ImagePool) -> tuple[list[str], NDArray[np.int64]]:
    """The ids to embed (N,), and where in the pool each is, -1 for one that is not there."""
    _, store_ids = pool.slice_of(SOURCE)
    if config.table is None:
        return [name.decode() for name in store_ids.tolist()], np.arange(len(pool))
    ids = [str(name) for name in read_table(config.table)["isic_id"]]
    match = match_ids(ids, store_ids)
    if len(match.missing) == len(ids):
        raise InputError(
            f"{config.images} holds none of the {len(ids)} ids of {config.table}; do they belong together?"
        )
    return ids, match.rows.astype(np.int64)
