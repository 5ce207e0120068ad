"""Several sets of features on the same lesions: the scores of each, kept as they are made, and the rows of the report."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray
from tqdm import tqdm

from ssl_isic.evaluation.kept import KeptFeatures
from ssl_isic.evaluation.lesions import Lesions
from ssl_isic.evaluation.neighbours import Features
from ssl_isic.evaluation.report import BACKBONE, BOOTSTRAP, COLOUR, RANDOM, over_seeds
from ssl_isic.evaluation.scores import (
    Scores,
    few_shot_rows,
    from_arrays,
    lead,
    lesions_hash,
    measure,
    score,
    standardised,
    to_arrays,
)


@dataclass(frozen=True)
class FeatureSet:
    """One of the things compared, its features of images that are cleaned so kept under `key`.

    `seed` tells random networks of one name apart.
    """

    name: str
    kind: str
    model: str
    weights: str
    seed: int | None
    cleaning: tuple[str, ...]
    key: str

    @property
    def title(self) -> str:
        """A name that no other set has."""
        return self.name if self.seed is None else f"{self.name}, seed {self.seed}"


@dataclass(frozen=True)
class Comparison:
    """N lesions, the rows of the kept features that are theirs, and the sets to compare.

    For each cleaning of a set there are colour numbers of it.
    """

    kept: KeptFeatures
    rows: NDArray[Any]
    lesions: Lesions
    sets: list[FeatureSet]
    shares: tuple[float, ...]
    draws: int
    neighbours: int
    resamples: int
    seed: int

    def features(self, found: FeatureSet) -> Features:
        """The features (N, D) of a set; the colour numbers standardised, since their units differ."""
        features = self.kept.load(found.key)[self.rows]
        return standardised(features) if found.kind == COLOUR else features

    def scores(self) -> dict[FeatureSet, Scores]:
        """The scores of each set, computed or as they were kept."""
        return {found: self._scores(found) for found in tqdm(self.sets, desc="scoring", unit="set")}

    def report(self, scores: dict[FeatureSet, Scores]) -> list[dict[str, Any]]:
        """A row a set, and after the seeds of each random network one over them."""
        colour = {found.cleaning: scores[found] for found in self.sets if found.kind == COLOUR}
        rows = dict[str, list[dict[str, Any]]]()
        for found in tqdm(self.sets, desc="bootstrap", unit="set"):
            about = {"name": found.title, "kind": found.kind, "model": found.model, "weights": found.weights}
            against = None if found.kind == COLOUR else colour[found.cleaning]
            measured = measure(scores[found], against, self.lesions, self.resamples, self.seed)
            rows.setdefault(found.name, []).append({**about, "interval": BOOTSTRAP, **measured})
        for name, of_name in rows.items():
            if of_name[0]["kind"] == RANDOM:
                of_name.append(over_seeds(of_name, f"{name}, {len(of_name)} seeds"))
        return [row for of_name in rows.values() for row in of_name]

    def differences(self, scores: dict[FeatureSet, Scores], against: Sequence[str]) -> Iterator[dict[str, Any]]:
        """A row for each backbone and each other one of `against`: the lead of its kNN and its probe over that one's."""
        backbones = {found.name: found for found in self.sets if found.kind == BACKBONE}
        for name, found in tqdm(backbones.items(), desc="differences", unit="set", disable=not against):
            for other in against:
                if other != name:
                    ahead = lead(
                        scores[found], scores[backbones[other]], "ahead", self.lesions, self.resamples, self.seed
                    )
                    yield {"name": name, "against": other, **ahead}

    def few_shot(self, scores: dict[FeatureSet, Scores]) -> Iterator[dict[str, Any]]:
        """A row a set, share and draw."""
        for found, scored in tqdm(scores.items(), desc="few labels", unit="set"):
            for row in few_shot_rows(scored, self.lesions, self.resamples, self.seed):
                yield {"name": found.name, "kind": found.kind, "seed": found.seed, **row}

    def _scores(self, found: FeatureSet) -> Scores:
        settings = (self.shares, self.draws, self.neighbours, self.seed)
        name = f"{found.key}.scores-{lesions_hash(self.lesions, found.kind == COLOUR, *settings)}"
        return from_arrays(
            self.kept.arrays(name, lambda: to_arrays(score(self.features(found), self.lesions, *settings)))
        )
