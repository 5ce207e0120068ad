"""Images that a backbone takes for the same, by the cosine of their features.

Features are centred first: those of one kind of picture share a direction, and without it all cosines are near one.
Shapes: N images, D features, P pairs.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from ssl_isic.backbones import feature_size
from ssl_isic.data.images import ImagePool
from ssl_isic.data.kept_rows import KeptRows
from ssl_isic.data.near_duplicates import Pairs
from ssl_isic.data.source_stamps import source_stamps
from ssl_isic.data.workers import LoaderConfig
from ssl_isic.errors import InputError
from ssl_isic.evaluation.forward import forward_images
from ssl_isic.evaluation.source import Embedder, fingerprint

Features = NDArray[np.float32]

TILE = 4096
"""One tile of cosines takes 67 MB."""
MOST_PAIRS = 2_000_000


def kept_features(
    pool: ImagePool,
    embedder: Embedder,
    cleaning: Sequence[str],
    image_size: int,
    batch_size: int,
    loader: LoaderConfig,
    folder: Path,
) -> Features:
    """The features of all images of `pool`, cleaned (N, D), kept in `folder`: what an earlier run left is taken over.

    Raises:
        InputError: features that are not finite.
    """
    accelerator = Accelerator()
    embedder.to(accelerator.device)
    seen = {"image_size": image_size, "cleaning": list(cleaning), "decode": loader.decode}
    plan = {"backbone": fingerprint(embedder), "sources": source_stamps(pool), **seen}
    width = feature_size(embedder.backbone)
    kept = KeptRows(folder, "features", plan, len(pool), np.dtype("<f4"), (width,))
    done = kept.done()
    if done < len(pool):
        blocks = forward_images(
            embedder,
            pool,
            np.arange(done, len(pool)),
            image_size=image_size,
            batch_size=batch_size,
            loader=loader,
            accelerator=accelerator,
            cleaning=cleaning,
            title="features",
        )
        with kept.appending() as file:
            for block in blocks:
                values = np.where(block.readable[:, None], block.values, 0).astype("<f4")
                if not np.isfinite(values).all():
                    raise InputError("the backbone's features are not finite; are its weights damaged?")
                file.append(values)
    return kept.read()


def cosine_pairs(features: Features, rows: NDArray[np.int64], least: float, device: torch.device) -> Pairs:
    """The pairs (P, 2) of `rows` (R,) of `features` (N, D) whose centred features have a cosine of `least` or more.

    Raises:
        InputError: there are more than `MOST_PAIRS`.
    """
    starts, found, total = range(0, len(rows), TILE), list[NDArray[np.int64]](), 0
    sums = [features[rows[start : start + TILE]].sum(axis=0, dtype=np.float64) for start in starts]
    centre = (np.sum(sums, axis=0) / max(1, len(rows))).astype(np.float32)
    with tqdm(total=len(starts) * (len(starts) + 1) // 2, desc="cosines", unit="tile") as bar:
        for start in starts:
            left = _directions(features, rows[start : start + TILE], centre, device)
            for other in starts[start // TILE :]:
                right = _directions(features, rows[other : other + TILE], centre, device)
                i, j = (part.cpu().numpy() for part in torch.nonzero(left @ right.T >= least, as_tuple=True))
                ahead = start + i < other + j
                found.append(np.stack([rows[start + i[ahead]], rows[other + j[ahead]]], axis=1))
                total += len(found[-1])
                if total > MOST_PAIRS:
                    raise InputError(
                        f"cosine={least:g} joins more than {MOST_PAIRS:,} pairs of images with this backbone; raise it"
                    )
                bar.update()
    return np.concatenate([np.empty((0, 2), np.int64), *found])


def _directions(features: Features, rows: NDArray[np.int64], centre: Features, device: torch.device) -> Tensor:
    values = torch.from_numpy(features[rows] - centre).to(device)
    return torch.nn.functional.normalize(values, dim=1)
