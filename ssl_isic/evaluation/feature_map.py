"""The map of what backbones make of labelled lesions, and of images of other sources beside them, labelled or not."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ssl_isic.data.images import ImagePool
from ssl_isic.evaluation.comparison import Comparison
from ssl_isic.evaluation.figures import MAP_NAMES, MAP_ROWS, UNLABELLED, MapMethod, map_rows, scatter_plots
from ssl_isic.evaluation.kept import KeptFeatures
from ssl_isic.evaluation.lesions import UNKNOWN
from ssl_isic.evaluation.neighbours import Features
from ssl_isic.evaluation.report import BACKBONE
from ssl_isic.evaluation.source import BackboneSource

SOURCE_HEAD = "source"


@dataclass(frozen=True)
class MapSources:
    """M images of other sources, whose features are in `kept`, and the name of the source of each, (M,)."""

    kept: KeptFeatures
    names: NDArray[np.str_]
    keys: dict[str, str] = field(default_factory=dict)
    """Under which the features by a backbone are kept, by its name."""

    def embed(self, name: str, source: BackboneSource, cleaning: Sequence[str]) -> None:
        """Embed the images, cleaned so, by the backbone `name` unless they already are. Every rank calls this."""
        self.keys[name] = self.kept.key(source, cleaning)
        self.kept.embed(source, cleaning, self.keys[name], f"{name}, map")

    def features(self, name: str) -> tuple[Features, NDArray[np.bool_]]:
        """Their features (M, D) by a backbone that they were embedded by, and which could be read, (M,)."""
        return self.kept.load(self.keys[name]), self.kept.readable(self.keys[name])


def draw_map_sources(sources: Mapping[str, Path], seed: int, labelled: KeptFeatures) -> MapSources:
    """Draw images of the sources at random, as many of each and as many in all as the map shows of labelled ones at most.

    Their features are read and kept as those of the `labelled`.

    Raises:
        InputError: a source that is missing, or something else.
    """
    pool, rng = ImagePool(sources), np.random.default_rng(seed)
    drawn = list[NDArray[np.int64]]()
    for name in pool.names:
        start, ids = pool.slice_of(name)
        drawn.append(start + np.sort(rng.permutation(len(ids))[: MAP_ROWS // len(sources)]))
    indices = np.concatenate(drawn)
    kept = KeptFeatures(
        labelled.folder,
        pool,
        [pool.id_of(index) for index in indices.tolist()],
        indices,
        labelled.image_size,
        labelled.reading,
        labelled.accelerator,
    )
    return MapSources(kept, np.repeat(pool.names, [len(rows) for rows in drawn]))


def write_map(
    comparison: Comparison,
    columns: Sequence[str],
    others: MapSources | None,
    path: Path,
    *,
    labelled: str,
    method: MapMethod,
) -> None:
    """Write a PNG of the lesions by each backbone, coloured by label, by `columns`, and with `others` by source.

    The source of the lesions is called `labelled`.

    Raises:
        InputError: as `check_map_method`.
    """
    lesions = comparison.lesions
    rows = map_rows(lesions.target, comparison.seed)
    features = {found.name: comparison.features(found)[rows] for found in comparison.sets if found.kind == BACKBONE}
    colourings = {"label": np.where(lesions.target[rows] == 1, "malignant", "benign")}
    colourings |= {name: lesions.columns[name][rows] for name in columns}
    title = f"{MAP_NAMES[method]} of {len(rows)} of {len(lesions.ids)} images"
    if others is not None:
        beside = {name: others.features(name) for name in features}
        read = np.logical_and.reduce([readable for _, readable in beside.values()])
        names, unread = others.names[read], np.flatnonzero(~read)
        if unread.size:
            first = others.kept.ids[unread[0]]
            print(f"map_sources: {unread.size} images do not decode and are not on the map, the first is {first}")
        features = {name: np.concatenate([values, beside[name][0][read]]) for name, values in features.items()}
        colourings = {
            what: np.concatenate([values, np.full(len(names), UNLABELLED if what == "label" else UNKNOWN)])
            for what, values in colourings.items()
        }
        colourings[SOURCE_HEAD] = np.concatenate([np.full(len(rows), labelled), names])
        title += f" and {len(names)} of other sources"
    scatter_plots(features, colourings, path, method=method, seed=comparison.seed, title=title)
