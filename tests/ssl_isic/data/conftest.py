"""A small labelled set with two clinics, patients, lesions and near-duplicates, written as files."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import simplejpeg
from numpy.typing import NDArray

WriteHdf5 = Callable[..., Path]


@dataclass(frozen=True)
class LabelledSet:
    """60 images of 30 patients; rows 0 and 59 show the same picture, at another size and quality."""

    table: Path
    images: Path
    frame: pd.DataFrame
    jpegs: dict[str, bytes]


def textured(seed: int, height: int = 96, width: int = 128) -> NDArray[np.uint8]:
    """A picture with detail of every size, unlike any of another seed."""
    rng = np.random.default_rng(seed)
    layers = [
        cv2.resize(rng.normal(0, 20, (k, k, 3)), (width, height), interpolation=cv2.INTER_CUBIC) for k in (4, 9, 24)
    ]
    return (np.sum(layers, axis=0) + np.array([170, 130, 110])).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def labelled_set(tmp_path_factory: pytest.TempPathFactory, write_hdf5: WriteHdf5) -> LabelledSet:
    """The set; the lesion of rows 1 and 58 has two patients."""
    folder = tmp_path_factory.mktemp("labelled_set")
    ids = [f"ISIC_{row:07d}" for row in range(60)]
    jpegs = {name: simplejpeg.encode_jpeg(textured(row), quality=90) for row, name in enumerate(ids)}
    again = np.ascontiguousarray(cv2.resize(textured(0), (90, 70), interpolation=cv2.INTER_AREA))
    jpegs[ids[59]] = simplejpeg.encode_jpeg(again, quality=70)
    frame = pd.DataFrame({"isic_id": ids, "patient_id": [f"P{row // 2:02d}" for row in range(60)], "lesion_id": None})
    frame.loc[[1, 58], "lesion_id"] = "L1"
    frame["target"] = (np.arange(60) % 4 == 0).astype(int)
    frame["attribution"] = [f"clinic {'ABCDEF'[row // 10]}" for row in range(60)]
    frame.to_csv(folder / "table.csv", index=False)
    return LabelledSet(folder / "table.csv", write_hdf5(folder / "images.hdf5", jpegs), frame, jpegs)
