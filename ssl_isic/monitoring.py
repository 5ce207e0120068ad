"""What a pretraining is worth while it runs: measured on images held out of it, with labels where there are any."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from ssl_isic.config import Config
from ssl_isic.data.folds import make_folds
from ssl_isic.data.images import ImagePool
from ssl_isic.data.pool_tables import PoolTables
from ssl_isic.data.workers import LoaderConfig
from ssl_isic.errors import InputError
from ssl_isic.evaluation.colour import colour_features
from ssl_isic.evaluation.forward import forward_images
from ssl_isic.evaluation.neighbours import knn_scores
from ssl_isic.evaluation.probe import linear_probe
from ssl_isic.evaluation.source import Embedder
from ssl_isic.evaluation.spectrum import alignment, alpha_req, or_none, rankme, uniformity
from ssl_isic.methods.diagnostics import feature_std
from ssl_isic.metrics import partial_auc, roc_auc
from ssl_isic.pool import Pool

LARGEST_SHARE, FEWEST = 0.1, 64
SHARE_OF_POSITIVES, FEWEST_POSITIVES = 0.25, 10
FOLDS = 5
BATCH = 256


class MonitorConfig(Config):
    """What is looked at while a pretraining runs."""

    images: int = Field(1024, ge=0)
    """Images held out of training and looked at, a tenth of the pool at most. Where that is under 64, or with 0, all are
    trained on and none is looked at. With `target` they are labelled images, 64 at least. Up to a quarter of them are
    malignant, but no more than a tenth of all malignant ones, or ten if that is more."""
    every_epochs: float = Field(1.0, gt=0)
    """Epochs between looks."""
    target: str | None = None
    """Column of data.tables with 0 or 1: adds kNN and linear-probe AUC and pAUC on held-out images."""
    group: Literal["patient", "lesion"] = "patient"
    """What stays in one fold of the probe, and is no neighbour of itself."""
    collapse: Literal["stop", "warn", "ignore"] = "stop"
    """What to do when the network stops telling images apart."""


@dataclass(frozen=True)
class HeldOut:
    """M images that training does not see: pool indices, and 0/1 labels and groups where there are labels."""

    indices: NDArray[np.int64]
    left_out: NDArray[np.int64]
    """These and the other photographs of their lesions: none is trained on."""
    target: NDArray[np.float64] | None
    groups: NDArray[np.str_] | None

    def remark(self, config: MonitorConfig, images: ImagePool) -> str:
        """How many there are, in a line; of several sources those of each, which labels tell apart to some degree."""
        if not len(self.indices):
            few = f", since a tenth of the pool is under {FEWEST}" if config.images >= FEWEST else ""
            return f"no images are held out to look at{few}"
        if self.target is None or self.groups is None:
            return f"{len(self.indices)} images are held out to look at"
        malignant = self.target == 1
        line = (
            f"{len(self.indices)} images are held out to look at, {malignant.sum()} of them malignant, of "
            f"{np.unique(self.groups[malignant]).size} {config.group}s"
        )
        source = np.searchsorted(np.cumsum([len(store.ids) for store in images.stores]), self.indices, side="right")
        if np.unique(source).size == 1:
            return line
        shares = [
            f"{malignant[source == k].sum()} of {(source == k).sum()} in {images.names[k]}" for k in np.unique(source)
        ]
        return f"{line} ({', '.join(shares)}: what tells the sources apart raises the AUC, colour's too)"


def hold_out(config: MonitorConfig, pool: Pool, seed: int) -> HeldOut:
    """Draw the images to look at, whole lesions where the tables name them, each id from the first source that has it.

    With labels they are drawn from the labelled ones, up to a quarter of them malignant, and no more than a tenth of all
    that are, or ten: training needs what is rare. Of sources in shards they come from as few shards as hold them.

    Raises:
        InputError: labels that are not 0 or 1, or of one class only; labels, but too few images to hold any out.
    """
    once = pool.without(pool.repeated)
    size = min(config.images, int(LARGEST_SHARE * len(once)))
    if size < FEWEST:
        if config.target is not None:
            raise InputError(
                f"monitor.target={config.target}: {size} images would be held out of {len(once)} (monitor.images="
                f"{config.images}, a tenth at most), and {FEWEST} are needed; set monitor.target=null"
            )
        none = np.empty(0, np.int64)
        return HeldOut(none, none, None, None)
    rng, lesions = np.random.default_rng([seed, len(pool.images)]), pool.lesions()
    if config.target is None:
        every = _lesion_by_lesion(_those_in(rng.permutation(len(pool.images)), once), lesions)
        indices = np.sort(pool.images.from_few_shards(every, size))
        return HeldOut(indices, _photographs(lesions, indices), None, None)
    labels = pool.tables.column(config.target, "monitor.target")
    target = _read_labels(labels, config.target, pool.tables)
    positives, negatives = (
        _lesion_by_lesion(_those_in(rng.permutation(np.flatnonzero(target == label)), once), lesions)
        for label in (1, 0)
    )
    wanted = min(round(SHARE_OF_POSITIVES * size), int(LARGEST_SHARE * len(positives)))
    positives = pool.images.from_few_shards(positives, max(FEWEST_POSITIVES, wanted))
    negatives = pool.images.from_few_shards(negatives, max(FOLDS, size - len(positives)))
    indices = np.sort(np.concatenate([positives, negatives]))
    groups = pool.groups(config.group)[indices].astype(np.str_)
    if _fewest_groups(target[indices], groups) < FOLDS:
        raise InputError(
            f"monitor.target={config.target}: {len(positives)} positives in {len(indices)} held-out images are of fewer "
            f"than {FOLDS} {config.group}s, too few for a probe; set monitor.target=null"
        )
    return HeldOut(indices, _photographs(lesions, indices), target[indices], groups)


def _fewest_groups(target: NDArray[np.float64], groups: NDArray[np.str_]) -> int:
    """In how many groups the class is that is in fewer."""
    return min(np.unique(groups[target == label]).size for label in (0, 1))


def _those_in(images: NDArray[np.int64], chosen: NDArray[np.int64]) -> NDArray[np.int64]:
    """`images` in their order, those that are in `chosen`."""
    return images[np.isin(images, chosen)]


def _lesion_by_lesion(images: NDArray[np.int64], lesions: NDArray[np.int64]) -> NDArray[np.int64]:
    """`images` in their order, but the photographs of a lesion right after its first one."""
    _, first, lesion = np.unique(lesions[images], return_index=True, return_inverse=True)
    return images[np.argsort(first[lesion], kind="stable")]


def _photographs(lesions: NDArray[np.int64], indices: NDArray[np.int64]) -> NDArray[np.int64]:
    """`indices` and the other photographs of their lesions, sorted."""
    return np.flatnonzero(np.isin(lesions, lesions[indices]))


def _read_labels(labels: NDArray[np.str_], column: str, tables: PoolTables) -> NDArray[np.float64]:
    """1, 0, or NaN where there is no label (N,)."""
    known = {"": np.nan, "0": 0.0, "1": 1.0, "0.0": 0.0, "1.0": 1.0, "False": 0.0, "True": 1.0}
    names, inverse = np.unique(labels, return_inverse=True)
    unknown = [name for name in names.tolist() if name not in known]
    if unknown:
        raise InputError(
            f"{tables.place_of(unknown[0], column)}: monitor.target={column} must be 0 or 1, got {unknown[0]}; "
            "name a column of those, or null"
        )
    return np.array([known[name] for name in names.tolist()])[inverse]


@dataclass(frozen=True)
class Monitor:
    """An evaluator for the loop: names and values, on every rank alike."""

    pool: Pool
    held_out: HeldOut
    image_size: int
    loader: LoaderConfig
    accelerator: Accelerator

    def __call__(self, network: nn.Module) -> Iterator[tuple[str, float]]:
        features, turned, readable = self._features(network)
        spectrum = {"rankme": or_none(rankme, features), "alpha_req": or_none(alpha_req, features)}
        for name, value in spectrum.items():
            if value is not None:
                yield f"held_out_{name}", value
        yield "held_out_feature_std", float(feature_std(torch.from_numpy(features)))
        yield "held_out_alignment", alignment(features, turned)
        yield "held_out_uniformity", uniformity(features)
        target, groups = self.held_out.target, self.held_out.groups
        if target is None or groups is None:
            return
        target, groups = target[readable], groups[readable]
        if _fewest_groups(target, groups) < FOLDS:
            return
        ids = [f"{row:09d}" for row in range(len(target))]
        folds = make_folds(ids, target, groups, FOLDS, seed=0)
        scores = {
            "knn": knn_scores(features, target, groups),
            "probe": linear_probe(features, target, groups, folds),
            "colour": linear_probe(self._colour[readable], target, groups, folds),
        }
        for name, score in scores.items():
            yield f"held_out_{name}_auc", roc_auc(target, score)
            yield f"held_out_{name}_pauc", partial_auc(target, score)

    @cached_property
    def _colour(self) -> NDArray[np.float64]:
        """The twelve colour numbers of the held-out images, (M, 12): what their features have to beat."""
        return colour_features(self.pool.images, self.held_out.indices, self.pool.config.clean)

    def _features(self, network: nn.Module) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
        """Features (R, D) of the held-out images that can be read, of the same turned by a quarter, and which those are, (M,).

        InputError where none can be read.
        """
        embedder = Embedder(network)

        def both(pixels: Tensor) -> Tensor:
            return torch.stack([embedder(pixels), embedder(torch.rot90(pixels, dims=(1, 2)))], dim=1)

        blocks = list(
            forward_images(
                both,
                self.pool.images,
                self.held_out.indices,
                image_size=self.image_size,
                batch_size=BATCH,
                loader=self.loader,
                accelerator=self.accelerator,
                cleaning=self.pool.config.clean,
            )
        )
        values = np.concatenate([block.values for block in blocks]).astype(np.float64)
        readable = np.concatenate([block.readable for block in blocks])
        if not readable.any():
            raise InputError(f"none of {len(readable)} held-out images decodes; are the files of data.sources damaged?")
        return values[readable, 0], values[readable, 1], readable
