"""A small pool in order, to plant problems in: 40 images that do not look alike, with a table and folds."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
import simplejpeg
from numpy.typing import NDArray

from ssl_isic.survey import main

IMAGES = 40


def texture(seed: int) -> NDArray[np.uint8]:
    """Smooth colours, another picture for each seed, uint8 (height, width, 3)."""
    rng = np.random.default_rng([7, seed])
    height, width = rng.integers(64, 100, size=2).tolist()
    coarse = rng.uniform(40, 220, (6, 6, 3)).astype(np.float32)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).clip(0, 255), np.uint8)


def jpeg(pixels: NDArray[np.uint8], quality: int = 95) -> bytes:
    """The pixels as a JPEG."""
    return bytes(simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), quality=quality, colorspace="RGB"))


@dataclass
class Clean:
    """What one run of the command takes, in order until a test plants something; two images are one patient's lesion."""

    folder: Path
    write_hdf5: Callable[..., Path]
    images: dict[str, bytes] = field(default_factory=lambda: {f"ISIC_{k:07d}": jpeg(texture(k)) for k in range(IMAGES)})
    words: list[str] = field(default_factory=lambda: ["data.workers=0"])

    def __post_init__(self) -> None:
        number = np.arange(IMAGES)
        self.table = pd.DataFrame(
            {
                "isic_id": list(self.images),
                "target": (number % 4 == 0).astype(int),
                "dx": np.where(number % 4 == 0, "mel", "nv"),
                "patient_id": [f"P{k // 4}" for k in number],
                "lesion_id": [f"L{k // 2 if k < 4 else k}" for k in number],
                "attribution": np.where(number // 4 % 2, "Clinic A", "Clinic B"),
                "sex": np.where(number // 4 % 2, "male", "female"),
                "age_approx": 5 * (number // 4) + 20,
                "anatom_site_general": "trunk",
            }
        )
        self.folds = pd.DataFrame(
            {"isic_id": self.table["isic_id"], "group": self.table["patient_id"], "fold": number // 4 % 2}
        )
        self.folds["group"] = self.folds["group"].astype(object)
        self.table.loc[self.table["lesion_id"] == "L0", "target"] = 1
        self.table.loc[self.table["lesion_id"] == "L0", "dx"] = "mel"

    @property
    def out(self) -> Path:
        """Where the run writes."""
        return self.folder / "out"

    def set(self, column: str, row: int, value: Any) -> None:
        """Put `value` into the table."""
        self.table[column] = self.table[column].astype(object)
        self.table.loc[row, column] = value

    def write(self) -> list[str]:
        """Write the files; returns the words of the command."""
        images = self.write_hdf5(self.folder / "images.hdf5", self.images)
        self.table.to_csv(self.folder / "table.csv", index=False)
        self.folds.to_csv(self.folder / "folds.csv", index=False)
        paths = [f"data.sources.here={images}", f"data.tables.here={self.folder / 'table.csv'}"]
        return [*paths, f"folds={self.folder / 'folds.csv'}", f"out={self.out}", *self.words]

    def run(self) -> int:
        """Write the files and run the command; returns its exit code."""
        return main(self.write())


@pytest.fixture(scope="session")
def texture_of() -> Callable[[int], NDArray[np.uint8]]:
    """`texture`."""
    return texture


@pytest.fixture(scope="session")
def jpeg_of() -> Callable[..., bytes]:
    """`jpeg`."""
    return jpeg


@pytest.fixture
def clean(tmp_path: Path, write_hdf5: Callable[..., Path]) -> Clean:
    """A pool in order."""
    return Clean(tmp_path, write_hdf5)
