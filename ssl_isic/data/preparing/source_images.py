"""All images of a source by our ids, whatever files they are in."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ssl_isic.data.preparing.settings import IdRule
from ssl_isic.data.preparing.source_files import ArrayFiles, ImageFiles, open_files
from ssl_isic.errors import InputError


class SourceImages:
    """The images of several files, sorted by id.

    Raises:
        InputError: a file that is missing or none of images; two images of one id; a name with a slash or dots only.
    """

    def __init__(self, locations: Sequence[Path | str], rule: IdRule) -> None:
        self._files: list[ImageFiles] = [open_files(location) for location in locations]
        self.skipped: list[str] = []
        """Names of files that are no image of the source: their names are of another form."""
        ids: list[bytes] = []
        places: list[tuple[int, int]] = []
        for number, files in enumerate(self._files):
            for position, stem in enumerate(files.stems):
                found = rule.id_of(stem)
                if found is None:
                    self.skipped.append(files.name(position))
                else:
                    ids.append(_checked(found, files.name(position)).encode())
                    places.append((number, position))
        if not ids:
            first = f", {self.skipped[0]} for one" if self.skipped else ""
            raise InputError(f"no image is named as id.pattern={rule.pattern} has it{first}; mend the pattern")
        order = np.argsort(np.array(ids), kind="stable")
        self.ids: NDArray[np.bytes_] = np.array(ids)[order]
        self._places = np.array(places, dtype=np.int64)[order]
        self._refuse_repeated()

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def parallel(self) -> bool:
        """Whether several processes may read the images, each for itself."""
        return all(files.parallel for files in self._files)

    @property
    def table(self) -> pd.DataFrame | None:
        """What the files say of the images besides their pixels: MedMNIST's split, index and label."""
        tables = [files.table for files in self._files if isinstance(files, ArrayFiles)]
        return pd.concat(tables, ignore_index=True) if tables else None

    def take(self, positions: NDArray[np.intp]) -> None:
        """Keep only the images at `positions`, which are sorted."""
        self.ids, self._places = self.ids[positions], self._places[positions]

    def read(self, position: int) -> bytes:
        """The bytes of image `ids[position]`. ImageDecodeError or OSError when they cannot be had."""
        number, place = self._places[position]
        return self._files[int(number)].read(int(place))

    def _refuse_repeated(self) -> None:
        repeated = np.flatnonzero(self.ids[1:] == self.ids[:-1])
        if repeated.size:
            first, second = (
                self._files[number].name(place) for number, place in self._places[repeated[0] + np.arange(2)].tolist()
            )
            raise InputError(
                f"{first} and {second} have the same id {self.ids[repeated[0]].decode()} "
                f"({repeated.size} such pairs); give each image one file"
            )


def _checked(name: str, where: str) -> str:
    if "/" in name or not name.strip(".") or name != name.encode(errors="replace").decode():
        raise InputError(f"{where}: {name!r} cannot be the name of an HDF5 dataset; rename the image or set id.pattern")
    return name
