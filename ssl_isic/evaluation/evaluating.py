"""The evaluate stage's configuration and work: several backbones on one labelled set, beside chance and beside colour."""

import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
from accelerate import Accelerator
from numpy.typing import NDArray
from pydantic import Field, field_validator, model_validator

from ssl_isic.config import Seed, Side, dump_yaml, load_yaml
from ssl_isic.data.grouping import GroupColumns
from ssl_isic.data.images import ImagePool
from ssl_isic.data.overlapping import Overlap, read_overlap
from ssl_isic.errors import InputError
from ssl_isic.evaluation.comparison import Comparison, FeatureSet
from ssl_isic.evaluation.embedding import SOURCE, ReadingConfig
from ssl_isic.evaluation.feature_map import SOURCE_HEAD, MapSources, draw_map_sources, write_map
from ssl_isic.evaluation.figures import MapMethod, check_map_method, few_shot_curves
from ssl_isic.evaluation.kept import KeptFeatures
from ssl_isic.evaluation.lesions import Lesions, read_lesions
from ssl_isic.evaluation.neighbours import NEIGHBOURS, TEMPERATURE
from ssl_isic.evaluation.probe import C_GRID, DRAWS, INNER_FOLDS, SHARES
from ssl_isic.evaluation.report import (
    BACKBONE,
    COLOUR,
    COLUMNS,
    RANDOM,
    differences_table,
    few_shot_table,
    headlines,
    metrics_table,
)
from ssl_isic.evaluation.sheets import neighbour_sheet, patch_sheet, query_rows
from ssl_isic.evaluation.source import BackboneSource
from ssl_isic.evaluation.spectrum import ALPHA_RANKS
from ssl_isic.files import atomic_write, write_json
from ssl_isic.run_folder import commit, versions

RANDOM_SEEDS = (0, 1, 2)
COLOUR_NAME = "12 colour numbers"
_KEY = re.compile(r"\bbackbone\.(?=weights|model|seed)")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")


class EvaluateConfig(ReadingConfig, GroupColumns):
    """Compare backbones on labelled images, beside random networks and twelve colour numbers."""

    backbones: dict[str, BackboneSource] = Field(min_length=1)
    """Named backbones: backbones.NAME=FOLDER, or backbones.NAME.weights, .model and .seed as in `ssl-isic embed`."""
    table: Path
    """CSV with isic_id, the target and the group."""
    target: str = "target"
    """Column of labels, 0 or 1."""
    folds: int | Path = 5
    """How many folds, or a folds.csv as `ssl-isic folds` writes it."""
    image_size: Side = 96
    """Side of the input of every backbone, px."""
    seed: Seed = 0
    """Seed of folds, draws, resamples and maps."""
    shares: list[float] = list(SHARES)
    """Shares of the training groups, ascending to 1, on which the few-shot curve trains the probe; `[1]` leaves it out."""
    draws: int = Field(DRAWS, ge=1)
    """Draws of training groups for each share of the few-shot curve."""
    neighbours: int = Field(NEIGHBOURS, ge=1)
    """How many nearest lesions vote for kNN. Raise it where malignant ones are rare: most lesions have none among their 20
    nearest, and all score 0."""
    resamples: int = Field(1000, ge=2)
    """Resamples of the bootstrap; of the few-shot curve 200 at most."""
    against: list[str] = []
    """Names of backbones with which all others are compared, too, on the same resamples (differences.csv)."""
    queries: list[str] = []
    """The isic_id of lesions to show, with their neighbours and their patches; an empty list draws five of each class."""
    map: MapMethod = "tsne"
    """How the map is made; umap needs the extra `umap`."""
    map_columns: list[str] = []
    """Further columns of the table by which to colour the map, such as the clinic."""
    map_sources: dict[str, Path] = {}
    """Further images for the map, labelled or not, map_sources.NAME=FILE_OR_FOLDER: it is then coloured by source, too."""
    overlap: Path | None = None
    """What `ssl-isic overlap` found for these images and the backbones' pretraining: the report then says it."""
    out: Path
    """Folder of the report, the pictures and the features."""

    @field_validator("backbones")
    @classmethod
    def _names_fit_files(cls, backbones: dict[str, BackboneSource]) -> dict[str, BackboneSource]:
        for name in backbones:
            if not _NAME.fullmatch(name):
                raise ValueError(f"{name!r} becomes part of a file's name; use letters, digits and _ . + -")
        return backbones

    @field_validator("shares")
    @classmethod
    def _shares_end_in_all(cls, shares: list[float]) -> list[float]:
        if not shares or shares[-1] != 1 or shares[0] <= 0 or any(a >= b for a, b in pairwise(shares)):
            raise ValueError(f"shares={shares}: write shares above 0, ascending, the last one 1")
        return shares

    @model_validator(mode="after")
    def _sources_told_apart(self) -> Self:
        if self.images.stem in self.map_sources:
            raise ValueError(f"map_sources.{self.images.stem}: the labelled images have this name; take another")
        if self.map_sources and SOURCE_HEAD in self.map_columns:
            raise ValueError(
                "map_columns: with map_sources the map has a column source; call that of the table otherwise"
            )
        return self

    @model_validator(mode="after")
    def _compared_with_what_is_there(self) -> Self:
        for name in self.against:
            if name not in self.backbones:
                raise ValueError(f"against: there is no backbone {name}; there are {', '.join(self.backbones)}")
        return self


def evaluate(config: EvaluateConfig) -> None:
    """Write the report and its pictures. Every rank calls this: all embed, the main one does the rest.

    Raises:
        InputError: anything wrong with a backbone, the images, the table or the folds; a place that cannot be written to.
    """
    check_map_method(config.map)
    _check_place(config.out)
    pool = ImagePool({SOURCE: config.images})
    lesions = read_lesions(
        config.table,
        pool,
        target=config.target,
        group=config.group_columns(),
        folds=config.folds,
        seed=config.seed,
        columns=config.map_columns,
    )
    unknown = sorted(set(config.queries) - set(lesions.ids))
    if unknown:
        raise InputError(f"queries: {config.table} has no {unknown[0]}; name some of its isic_id")
    accelerator = Accelerator()
    kept = KeptFeatures(
        config.out / "features", pool, lesions.ids, lesions.indices, config.image_size, config, accelerator
    )
    overlap = None if config.overlap is None else read_overlap(config.overlap, lesions.ids)
    others = draw_map_sources(config.map_sources, config.seed, kept) if config.map_sources else None
    networks = _networks(config.backbones, kept)
    if accelerator.is_main_process:
        with atomic_write(config.out / "config.yaml") as temporary:
            temporary.write_text(dump_yaml(config), encoding="utf-8")
    for found, source in networks:
        kept.embed(source, found.cleaning, found.key, found.title)
        if others is not None and found.kind == BACKBONE:
            others.embed(found.name, source, found.cleaning)
    if not accelerator.is_main_process:
        return
    sets = [found for found, _ in networks]
    sets += [
        FeatureSet(_cleaned(COLOUR_NAME, cleaning), COLOUR, "", "", None, cleaning, kept.colour(cleaning))
        for cleaning in dict.fromkeys(found.cleaning for found in sets)
    ]
    readable = kept.readable(sets[0].key)
    rows, lesions = np.flatnonzero(readable), _readable_lesions(lesions, readable, config.images)
    shares, numbers = tuple(config.shares), (config.draws, config.neighbours, config.resamples, config.seed)
    _write(config, Comparison(kept, rows, lesions, sets, shares, *numbers), others, overlap)


def _check_place(out: Path) -> None:
    """InputError where another stage has written: its configuration would be lost."""
    settings = out / "config.yaml"
    if settings.exists() and "backbones" not in load_yaml(settings):
        raise InputError(f"out={out} holds a run or something else, with a config.yaml of its own; name another folder")


def _networks(backbones: dict[str, BackboneSource], kept: KeptFeatures) -> list[tuple[FeatureSet, BackboneSource]]:
    """The backbones, then random networks of each of their architectures, which see images cleaned as those do.

    InputError, naming it, for a backbone that does not open.
    """
    networks = list[tuple[FeatureSet, BackboneSource]]()
    for name, source in backbones.items():
        try:
            weights, cleaning = source.weights or "random", tuple(kept.reading.cleaning_for(source))
            key = kept.key(source, cleaning)
            found = FeatureSet(name, BACKBONE, source.architecture(), weights, None, cleaning, key)
        except InputError as error:
            raise InputError(_KEY.sub(f"backbones.{name}.", str(error))) from None
        networks.append((found, source))
    for model, cleaning in dict.fromkeys((found.model, found.cleaning) for found, _ in networks):
        for seed in RANDOM_SEEDS:
            source, name = BackboneSource(model=model, seed=seed), _cleaned(f"random {model}", cleaning)
            key = kept.key(source, cleaning)
            networks.append((FeatureSet(name, RANDOM, model, "random", seed, cleaning, key), source))
    return networks


def _cleaned(name: str, cleaning: Sequence[str]) -> str:
    """What something is called that sees cleaned images."""
    return f"{name} ({' + '.join(cleaning)})" if cleaning else name


def _readable_lesions(lesions: Lesions, readable: NDArray[np.bool_], images: Path) -> Lesions:
    """Without the lesions that do not decode: they have no features to judge a backbone by."""
    if readable.all():
        return lesions
    unread = [name for name, fine in zip(lesions.ids, readable, strict=True) if not fine]
    if len(unread) == len(lesions.ids):
        raise InputError(f"none of the {len(unread)} images in {images} decodes; is the file damaged?")
    print(f"{len(unread)} images do not decode and are left out, the first is {unread[0]}")
    return lesions.only(readable)


def _write(config: EvaluateConfig, comparison: Comparison, others: MapSources | None, overlap: Overlap | None) -> None:
    """Score, write every file of the report, and print its tables."""
    about, scores = _about(config, comparison), comparison.scores()
    rows, shots = comparison.report(scores), list(comparison.few_shot(scores)) if len(config.shares) > 1 else []
    differences = list(comparison.differences(scores, config.against))
    title = f"{about['images']} images of {about['groups']} groups, {about['positives']} malignant"
    _remove_former(config.out)
    tables = {
        "report.csv": pd.DataFrame(rows, columns=list(COLUMNS)),
        "few_shot.csv": pd.DataFrame(shots),
        "differences.csv": pd.DataFrame(differences),
    }
    for name, table in tables.items():
        if len(table):
            with atomic_write(config.out / name) as temporary:
                table.to_csv(temporary, index=False)
    write_json(config.out / "report.json", {**about, "overlap": overlap and overlap.model_dump(), "rows": rows})
    _write_pictures(config, comparison, others, shots, title)
    print(f"\n{title}, {config.image_size} px, {about['folds']} folds")
    print(f"Intervals are 95 % over groups; for random networks the range of {len(RANDOM_SEEDS)} seeds.\n")
    print(metrics_table(headlines(rows)))
    if differences:
        print("\nBy how much kNN and the probe are ahead, on the same resamples.\n")
        print(differences_table(differences))
    if shots:
        print(
            "\nProbe AUC by the share of training groups: mean over draws [95 % of one draw, over draws and groups].\n"
        )
        print(few_shot_table(shots, "auc"))
    for name, one in overlap.sources.items() if overlap else ():
        print(f"\n{one.evaluation_images} of these images are in the pretraining's source {name}, as near-duplicates.")
    print(f"\nThe report and its pictures are in {config.out}")


def _remove_former(out: Path) -> None:
    """Remove what an earlier report may have and this one may not."""
    for pattern in ("few_shot.*", "differences.csv", "neighbours-*.png", "patches-*.png"):
        for path in out.glob(pattern):
            path.unlink()


def _write_pictures(
    config: EvaluateConfig, comparison: Comparison, others: MapSources | None, shots: list[dict[str, Any]], title: str
) -> None:
    lesions, backbones = comparison.lesions, [found for found in comparison.sets if found.kind == BACKBONE]
    if shots:
        few_shot_curves(shots, config.out / "few_shot.png", f"Linear probe with few labels: {title}")
    queries = _wanted(config.queries, lesions) if config.queries else query_rows(lesions.target, config.seed)
    for found in backbones:
        heading = f"{found.name}: nearest lesions of other groups (orange: malignant, blue: benign)"
        path = config.out / f"neighbours-{found.name}.png"
        source = config.backbones[found.name]
        cleaning = config.cleaning_for(source)
        neighbour_sheet(comparison.features(found), lesions, comparison.kept.pool, queries, path, heading, cleaning)
        _write_patches(source, found.name, comparison, queries, config.out)
    write_map(
        comparison,
        config.map_columns,
        others,
        config.out / "map.png",
        labelled=config.images.stem,
        method=config.map,
    )


def _wanted(ids: Sequence[str], lesions: Lesions) -> NDArray[np.intp]:
    """The rows of `ids`, in their order. InputError for an image that could not be read."""
    row_of = {name: row for row, name in enumerate(lesions.ids)}
    for name in ids:
        if name not in row_of:
            raise InputError(f"queries: the image of {name} cannot be read; leave it out")
    return np.array([row_of[name] for name in ids], dtype=np.intp)


def _write_patches(
    source: BackboneSource, name: str, comparison: Comparison, queries: NDArray[np.intp], out: Path
) -> None:
    """The sheet of a backbone's patches, beside those of the first random network of its architecture."""
    kept = comparison.kept
    untrained = BackboneSource(model=source.architecture(), seed=RANDOM_SEEDS[0])
    patch_sheet(
        kept.embedder(source),
        kept.embedder(untrained),
        kept.image_size,
        comparison.lesions,
        kept.pool,
        queries,
        out / f"patches-{name}.png",
        name,
        kept.reading.cleaning_for(source),
    )


def _about(config: EvaluateConfig, comparison: Comparison) -> dict[str, Any]:
    """What the figures are computed from, and how."""
    lesions, asked = comparison.lesions, comparison.kept.ids
    return {
        "table": str(config.table),
        "image_file": str(config.images),
        "images": len(lesions.ids),
        "not_readable": sorted(set(asked) - set(lesions.ids)),
        "positives": int(lesions.target.sum()),
        "groups": int(np.unique(lesions.groups).size),
        "group": " + ".join(lesions.grouped_by),
        "folds": int(np.unique(lesions.fold).size),
        "folds_file": str(config.folds) if isinstance(config.folds, Path) else None,
        "image_size": config.image_size,
        "clean": {name: config.cleaning_for(source) for name, source in config.backbones.items()},
        "seed": config.seed,
        "knn": {"k": config.neighbours, "temperature": TEMPERATURE},
        "probe": {"c_grid": C_GRID, "inner_folds": INNER_FOLDS, "shares": config.shares, "draws": config.draws},
        "resamples": config.resamples,
        "alpha_req_ranks": ALPHA_RANKS,
        "versions": versions(),
        "commit": commit(),
    }
