"""All that was found out about a pool: what findings are drawn from, and what the page and the JSON show.

Shapes: N images in the pool.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ssl_isic.data.images import ImagePool
from ssl_isic.data.near_duplicates import connected
from ssl_isic.inspection.annotations import TARGET, Annotations, Codes
from ssl_isic.inspection.clinic_colour import Told, tell_clinic
from ssl_isic.inspection.fold_reading import FoldsFile
from ssl_isic.inspection.scanning import Records, State
from ssl_isic.inspection.sets import ImageSets, alike

FOLD = "fold"
SHOWN = 3
"""Examples in one finding."""

FILE, PIXELS, NEAR, EMBEDDED, SAME_ID = "file", "pixels", "near", "embedding", "id"
KINDS = {
    FILE: "the same bytes",
    PIXELS: "the same pixels in other bytes",
    NEAR: "near-duplicates by perceptual hash",
    EMBEDDED: "near-duplicates by the backbone",
    SAME_ID: "the same id in several sources",
}


@dataclass(frozen=True)
class Inspected:
    """A pool and what is known of it.

    `same_pixels` are the sets of images with the same pixels, whatever their bytes; `sets` has those of each of KINDS that
    was looked for.
    """

    pool: ImagePool
    records: Records
    rows: Annotations
    folds: FoldsFile | None
    same_pixels: ImageSets
    sets: Mapping[str, ImageSets]

    @cached_property
    def source(self) -> NDArray[np.int64]:
        """The number of each image's source (N,)."""
        return np.repeat(np.arange(len(self.pool.names)), [len(store.ids) for store in self.pool.stores])

    @property
    def readable(self) -> NDArray[np.bool_]:
        """Which images decode (N,)."""
        decodes: NDArray[np.bool_] = self.records["state"] <= State.SUSPECT
        return decodes

    @cached_property
    def lesions(self) -> ImageSets:
        """The lesions with two photographs or more, each within its source."""
        return self._within_source(self.rows.columns["lesion"].codes)

    @cached_property
    def groups(self) -> NDArray[np.int64]:
        """A number for each image (N,), the same for a patient's, a lesion's and alike images, through any chain."""
        patients = self._within_source(self.rows.columns["patient"].codes)
        alike_images = (patients, self.lesions, self.same_pixels, self.sets[NEAR])
        return connected(len(self.pool), np.concatenate([sets.links for sets in alike_images]))

    @cached_property
    def told(self) -> Told | None:
        """How well colour tells the clinic, of images whose group was not trained on."""
        codes, names = self.clinics
        fine = self.readable
        return tell_clinic(self.records["colour"][fine], codes[fine], names, self.groups[fine])

    @cached_property
    def clinics(self) -> tuple[Codes, list[str]]:
        """The clinic of each image (N,) by number, and their names; a source whose table names none is one itself."""
        column = self.rows.columns["clinic"]
        codes, names = column.codes.copy(), list(column.values)
        for number, source in enumerate(self.pool.names):
            own = self.source == number
            if not np.any(codes[own] >= 0):
                codes[own] = len(names)
                names.append(source)
        return codes, names

    def parted(self, sets: ImageSets) -> NDArray[np.bool_]:
        """Which sets (S,) hold images of two patients or of two lesions: a split by those would part them."""
        columns = self.rows.columns
        return sets.differ(columns["patient"].codes) | sets.differ(columns["lesion"].codes)

    def name(self, index: int) -> str:
        """What to call an image: its id, after its source where there are several."""
        identifier = printable(self.pool.id_of(index))
        return identifier if len(self.pool.names) == 1 else f"{printable(self.pool.source_of(index))}/{identifier}"

    def says(self, role: str, index: int) -> str:
        """The value of a column for an image, or with FOLD its fold, "" where nothing is said."""
        if role == FOLD:
            return "" if self.folds is None or self.folds.fold[index] < 0 else str(self.folds.fold[index])
        if role == TARGET:
            label = int(self.rows.target[index])
            return str(label) if label >= 0 else ""
        column = self.rows.columns[role]
        code = int(column.codes[index])
        return column.values[code] if code >= 0 else ""

    def names(self, rows: NDArray[np.intp]) -> str:
        """The first of the images `rows` by name, and how many more there are."""
        return listed([self.name(index) for index in rows[:SHOWN].tolist()], rows.size)

    def sets_named(self, sets: ImageSets, role: str | None = None) -> str:
        """The first sets, each by its first images, and what those have for `role`: a column, or FOLD."""
        texts = []
        for number in range(min(SHOWN, len(sets))):
            own = sets[number]
            names = [self._with_value(index, role) for index in own[:SHOWN].tolist()]
            texts.append(" = ".join(names) + (f" = {len(own) - SHOWN} more" if len(own) > SHOWN else ""))
        more = len(sets) - len(texts)
        return "; ".join(texts) + (f"; and {more} more sets" if more > 0 else "")

    def _with_value(self, index: int, role: str | None) -> str:
        if role is None:
            return self.name(index)
        return f"{self.name(index)} ({role} {printable(self.says(role, index)) or 'unknown'})"

    def _within_source(self, codes: Codes) -> ImageSets:
        known = np.flatnonzero(codes >= 0)
        return alike(self.source[known] * (int(codes.max(initial=0)) + 1) + codes[known], known)


def printable(text: str) -> str:
    """`text` in one line that a terminal shows as it is."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def listed(names: Sequence[str], total: int | None = None) -> str:
    """The first of `names` and how many more there are, of `total` where those are not all."""
    more = (len(names) if total is None else total) - SHOWN
    return ", ".join(printable(name) for name in names[:SHOWN]) + (f" and {more} more" if more > 0 else "")
