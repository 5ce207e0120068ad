"""Features that are computed once: files under a hash of all that they depend on, so that a killed run goes on."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from numpy.typing import NDArray

from ssl_isic.data.images import ImagePool
from ssl_isic.data.source_stamps import source_stamps
from ssl_isic.evaluation.colour import colour_features
from ssl_isic.evaluation.embedding import ReadingConfig, embedded, ids_path, write_npy, write_on_main
from ssl_isic.evaluation.forward import Block
from ssl_isic.evaluation.neighbours import Features
from ssl_isic.evaluation.source import BackboneSource, Embedder, fingerprint, open_backbone
from ssl_isic.evaluation.unfinished import UnfinishedRows
from ssl_isic.files import atomic_write

COLOUR_BLOCK = 256


@dataclass(frozen=True)
class KeptFeatures:
    """Features of the pool's images `indices`, called `ids` (N,), at `image_size` px, kept in `folder`."""

    folder: Path
    pool: ImagePool
    ids: Sequence[str]
    indices: NDArray[np.int64]
    image_size: int
    reading: ReadingConfig
    accelerator: Accelerator

    def key(self, source: BackboneSource, cleaning: Sequence[str]) -> str:
        """A hash of weights, ids, file of images, size and cleaning.

        Opens the backbone: InputError as `open_backbone`.
        """
        network = fingerprint(Embedder(open_backbone(source, self.image_size)))
        return self._key(network, self.image_size, cleaning)

    def embed(self, source: BackboneSource, cleaning: Sequence[str], key: str, title: str) -> None:
        """Embed the images, cleaned so, unless they already are, under `key`. Every rank calls this."""
        there = [self._path(key).exists()]
        broadcast_object_list(there)  # one answer for all ranks, also where they see other disks
        if there[0]:
            return
        unfinished = UnfinishedRows(self._path(key), key, self.accelerator)
        blocks = embedded(
            self.embedder(source),
            self.pool,
            self.ids,
            self.indices,
            self.image_size,
            self.reading,
            cleaning,
            self.accelerator,
            unfinished,
            title,
        )
        if write_on_main(write_npy, self._path(key), self.ids, blocks, self.accelerator) is not None:
            unfinished.remove()

    def embedder(self, source: BackboneSource) -> Embedder:
        """The network of `source`, on this rank's device."""
        return Embedder(open_backbone(source, self.image_size)).to(self.accelerator.device)

    def colour(self, cleaning: Sequence[str]) -> str:
        """Compute the twelve colour numbers of the images, cleaned so, unless they are there; returns their key.

        The main process calls this.
        """
        key = self._key("colour", None, cleaning)
        if not self._path(key).exists():
            starts = range(0, len(self.indices), COLOUR_BLOCK)
            parts = (self.indices[start : start + COLOUR_BLOCK] for start in starts)
            blocks = (
                Block(values, np.any(values, axis=1))
                for values in (colour_features(self.pool, part, cleaning) for part in parts)
            )
            write_npy(self._path(key), self.ids, blocks)
        return key

    def load(self, key: str) -> Features:
        """The features under `key`, float32 (N, D), read from the disk as they are used."""
        features: Features = np.load(self._path(key), mmap_mode="r")
        return features

    def readable(self, key: str) -> NDArray[np.bool_]:
        """Which images could be read when `key` was embedded, (N,)."""
        return pd.read_csv(ids_path(self._path(key)))["readable"].to_numpy(dtype=bool)

    def arrays(
        self, name: str, compute: Callable[[], dict[str, NDArray[np.generic]]]
    ) -> dict[str, NDArray[np.generic]]:
        """Named arrays that were kept as `name`, or else are computed and kept."""
        path = self.folder / f"{name}.npz"
        if not path.exists():
            with atomic_write(path) as temporary:
                arrays: Any = compute()
                np.savez(temporary, **arrays)
        with np.load(path) as kept:
            return dict(kept)

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.npy"

    def _key(self, network: str, image_size: int | None, cleaning: Sequence[str]) -> str:
        how = [image_size, list(cleaning), self.reading.decode]
        all_of_it = [network, list(self.ids), source_stamps(self.pool), *how]
        return hashlib.sha256(json.dumps(all_of_it).encode()).hexdigest()[:32]
