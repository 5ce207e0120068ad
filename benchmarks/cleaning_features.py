"""What cleaning is worth to a classifier: frozen features and a linear probe, cleaned against not cleaned.

    python benchmarks/cleaning_features.py weights=tf_efficientnet_lite0.safetensors out=runs/cleaning \\
        'sets={ham: {images: ham10000-image.hdf5, table: ham10000-metadata.csv, group: lesion_id},
               isic2024: {images: train-image.hdf5, table: train-metadata.csv, group: none}}'

Within a set, scores are out-of-fold by group; from one set to another, the probe is trained on all of the one and scores all
of the other. Differences are paired bootstraps over groups, on the same folds. Features are embedded once: of images that
a cleaning leaves as they are, they are those of the images without it. What is finished is kept in `out`.
"""

import hashlib
import itertools
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from accelerate import Accelerator
from numpy.typing import NDArray
from pydantic import Field
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tqdm import tqdm

from ssl_isic.config import Config, read_config
from ssl_isic.data.cleaning import CleanNames, clean
from ssl_isic.data.decoding import decode_rgb
from ssl_isic.data.images import ImagePool
from ssl_isic.data.workers import LoaderConfig
from ssl_isic.errors import InputError, command
from ssl_isic.evaluation.embedding import SOURCE
from ssl_isic.evaluation.forward import forward_images
from ssl_isic.evaluation.lesions import Lesions, read_lesions
from ssl_isic.evaluation.probe import linear_probe
from ssl_isic.evaluation.scores import METRICS
from ssl_isic.evaluation.source import BackboneSource, Embedder, open_backbone
from ssl_isic.files import atomic_write
from ssl_isic.metrics import bootstrap, paired_bootstrap

Features = NDArray[np.float32]
Scores = NDArray[np.float64]

TRANSFER_C = 1e-3


class SetConfig(Config):
    """One source of labelled images."""

    images: Path
    """HDF5 file or folder of images."""
    table: Path
    """CSV with isic_id, target and the group."""
    group: str
    """Column whose values stay in one fold, or `none`."""


class FeaturesConfig(Config):
    """Compare cleanings by what a linear probe makes of frozen features."""

    sets: dict[str, SetConfig] = Field(min_length=1)
    """Named sources of labelled images."""
    weights: str
    """File or folder of the backbone's weights."""
    model: str = "tf_efficientnet_lite0"
    """Its architecture in timm."""
    cleanings: list[CleanNames] = [
        ["border"],
        ["hair"],
        ["ruler", "ink", "bubbles"],
        ["shades_of_gray"],
        ["clahe"],
        ["pad_square"],
        ["lab"],
    ]
    """What to compare with no cleaning."""
    images: int | None = None
    """All malignant images of a set and as many benign ones, drawn at random, as make so many; null takes all."""
    image_size: int = 64
    """Side of the input, px."""
    folds: int = 5
    """Folds within a set."""
    resamples: int = 1000
    """Resamples of the bootstrap."""
    seed: int = 0
    """Seed of folds and resamples."""
    only_embed: bool = False
    """Stop when the features are there."""
    out: Path = Path("runs/cleaning")
    """Folder of features and scores."""


@dataclass(frozen=True)
class LabelledSet:
    """A source: its images, their labels and the images' number N."""

    name: str
    pool: ImagePool
    lesions: Lesions

    def changed(self, names: Sequence[str]) -> NDArray[np.intp]:
        """The rows whose pixels the cleaning changes."""
        rows = list[int]()
        for row, index in enumerate(tqdm(self.lesions.indices.tolist(), desc=f"{self.name} {'+'.join(names)}")):
            image = decode_rgb(self.pool.read(index))
            cleaned = clean(image, names)
            if cleaned is not image and not np.array_equal(cleaned, image):
                rows.append(row)
        return np.array(rows, np.intp)


@command
def main(argv: Sequence[str]) -> None:
    """Embed and score what is not finished, then print the tables."""
    config = read_config(FeaturesConfig, argv, prog="benchmarks/cleaning_features.py")
    sets = [_read(name, of_set, config) for name, of_set in config.sets.items()]
    cleanings = [[], *config.cleanings]
    features = {(labelled.name, *names): _features(config, labelled, names) for labelled in sets for names in cleanings}
    if config.only_embed:
        return
    for labelled in sets:
        scores = [_within(config, labelled, names, features) for names in cleanings]
        _print_table(f"{labelled.name}, out-of-fold", labelled.lesions, cleanings, scores, config)
    for source, other in itertools.permutations(sets, 2):
        scores = [_across(source, features[source.name, *n], features[other.name, *n]) for n in cleanings]
        _print_table(f"trained on {source.name}, scored on {other.name}", other.lesions, cleanings, scores, config)


def _read(name: str, of_set: SetConfig, config: FeaturesConfig) -> LabelledSet:
    pool = ImagePool({SOURCE: of_set.images})
    lesions = read_lesions(
        of_set.table, pool, target="target", group=[of_set.group], folds=config.folds, seed=config.seed, columns=[]
    )
    if config.images is not None:
        taken = lesions.target == 1
        benign = np.random.default_rng(config.seed).permutation(np.flatnonzero(~taken))
        taken[benign[: max(0, config.images - int(taken.sum()))]] = True
        lesions = lesions.only(taken)
    return LabelledSet(name, pool, lesions)


def _features(config: FeaturesConfig, labelled: LabelledSet, names: Sequence[str]) -> Features:
    """The features (N, D) of a set under a cleaning, as they were kept or embedded now."""
    path = config.out / f"{labelled.name}-{_tag(config, names)}.npy"
    if path.exists():
        return np.asarray(np.load(path))
    rows = labelled.changed(names) if names else np.arange(len(labelled.lesions.ids))
    embedded = _embed(config, labelled, names, rows)
    if names:
        features = _features(config, labelled, []).copy()
        features[rows] = embedded
        print(f"{labelled.name}: {'+'.join(names)} changes {len(rows)} of {len(features)} images")
    else:
        features = embedded
    with atomic_write(path) as temporary:
        np.save(temporary, features)
    return features


def _embed(config: FeaturesConfig, labelled: LabelledSet, names: Sequence[str], rows: NDArray[np.intp]) -> Features:
    backbone = open_backbone(BackboneSource(weights=config.weights, model=config.model), config.image_size)
    blocks = forward_images(
        Embedder(backbone),
        labelled.pool,
        labelled.lesions.indices[rows],
        image_size=config.image_size,
        batch_size=64,
        loader=LoaderConfig(workers=0, decode="full"),
        accelerator=Accelerator(cpu=True),
        cleaning=names,
        title=f"{labelled.name} {'+'.join(names) or 'as it is'}",
    )
    parts = list[Features]()
    for block in blocks:
        if not block.readable.all():
            raise InputError(f"{labelled.name}: some images do not decode; leave them out of the table")
        parts.append(block.values.astype(np.float32))
    return np.concatenate(parts) if parts else np.empty((0, backbone.num_features), np.float32)


def _within(
    config: FeaturesConfig,
    labelled: LabelledSet,
    names: Sequence[str],
    features: dict[tuple[str, ...], Features],
) -> Scores:
    path = config.out / f"{labelled.name}-{_tag(config, names)}.scores.npy"
    if not path.exists():
        lesions = labelled.lesions
        found = features[labelled.name, *names]
        with atomic_write(path) as temporary:
            np.save(temporary, linear_probe(found, lesions.target, lesions.groups, lesions.fold, config.seed))
    return np.asarray(np.load(path))


def _across(source: LabelledSet, features: Features, others: Features) -> Scores:
    model = make_pipeline(StandardScaler(), LogisticRegression(C=TRANSFER_C, max_iter=2000))
    model.fit(features.astype(np.float64), source.lesions.target)
    return np.asarray(model.decision_function(others.astype(np.float64)))


def _print_table(
    title: str, lesions: Lesions, cleanings: list[list[str]], scores: list[Scores], config: FeaturesConfig
) -> None:
    print(f"\n{title}: {len(lesions.ids)} images, {int(lesions.target.sum())} malignant\n")
    print("| cleaning | AUC | AUC, less that without | pAUC | pAUC, less that without |")
    print("| --- | --- | --- | --- | --- |", flush=True)
    for names, score in zip(cleanings, scores, strict=True):
        cells = list[str]()
        for metric in METRICS.values():
            settings = {"groups": lesions.groups, "repeats": config.resamples, "seed": config.seed}
            value = bootstrap(metric, lesions.target, score, **settings)
            cells.append("{:.4f} [{:.4f}, {:.4f}]".format(*value[:3]))
            lead = paired_bootstrap(metric, lesions.target, score, scores[0], **settings)
            cells.append("{:+.4f} [{:+.4f}, {:+.4f}]".format(*lead[:3]) if names else "")
        print(f"| {'+'.join(names) or 'none'} | {' | '.join(cells)} |", flush=True)


def _tag(config: FeaturesConfig, names: Sequence[str]) -> str:
    about = [config.weights, config.model, config.image_size, config.images, config.folds, config.seed]
    return f"{'+'.join(names) or 'none'}-{hashlib.sha256(json.dumps(about).encode()).hexdigest()[:8]}"


if __name__ == "__main__":
    sys.exit(main())
