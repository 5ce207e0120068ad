"""Fixtures for every package's tests: real data where it is, and small files of images in Kaggle's form."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

# before torch is imported: tiny models only lose by threads, and by waiting for them
os.environ.setdefault("OMP_NUM_THREADS", "1")
# before it is imported: it would ask the network for its newest version
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
# bits are compared, and of a GPU's sums some have no order of their own; tests of a GPU take it away
os.environ.setdefault("ACCELERATE_USE_CPU", "true")

import h5py
import numpy as np
import pandas as pd
import pytest
import simplejpeg
from numpy.typing import NDArray

WriteHdf5 = Callable[[Path, Mapping[str, bytes]], Path]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data beside the repository; tests that read it are skipped where it is not."""
    folder = Path(__file__).resolve().parents[1] / ".." / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"needs ../shared/data (real ISIC files), not found at {folder.resolve()}")
    return folder.resolve()


@pytest.fixture(scope="session")
def write_hdf5() -> WriteHdf5:
    """Writes bytes by id into an HDF5 file of Kaggle's form: one scalar fixed-length string an id."""

    def write(path: Path, images: Mapping[str, bytes]) -> Path:
        with h5py.File(path, "w") as file:
            for name, data in images.items():
                file.create_dataset(name, data=np.bytes_(data))
        return path

    return write


@pytest.fixture(scope="session")
def lesion_jpegs() -> dict[str, bytes]:
    """48 small JPEGs by id: skin of one tone and a darker disc, each different, 40 to 63 px."""
    return {f"ISIC_{k:07d}": simplejpeg.encode_jpeg(disc_on_skin(k), quality=90) for k in range(48)}


@pytest.fixture(scope="session")
def lesions(tmp_path_factory: pytest.TempPathFactory, write_hdf5: WriteHdf5, lesion_jpegs: dict[str, bytes]) -> Path:
    """The images of `lesion_jpegs` in one HDF5 file."""
    return write_hdf5(tmp_path_factory.mktemp("images") / "lesions.hdf5", lesion_jpegs)


def disc_on_skin(seed: int) -> NDArray[np.uint8]:
    """A brown disc on skin with a little noise, uint8 (height, width, 3)."""
    rng = np.random.default_rng(seed)
    height, width = rng.integers(40, 64, size=2)
    y, x = np.mgrid[:height, :width]
    inside = np.hypot(y - height / 2, x - width / 2) < rng.uniform(8, 16)
    skin, brown = np.array([215, 170, 150]), np.array([rng.uniform(70, 150), 75, 55])
    pixels = np.where(inside[..., None], brown, skin) + rng.normal(0, 6, (height, width, 3))
    return pixels.clip(0, 255).astype(np.uint8)


@dataclass(frozen=True)
class LabelledFiles:
    """36 labelled lesions of 18 patients in 3 folds, 8 of them malignant, in a file of 48: 12 have no label."""

    images: Path
    table: Path
    folds: Path
    ids: list[str]
    target: NDArray[np.int64]
    groups: list[str]
    fold: NDArray[np.int64]


@pytest.fixture(scope="session")
def labelled_files(
    tmp_path_factory: pytest.TempPathFactory, lesions: Path, lesion_jpegs: dict[str, bytes]
) -> LabelledFiles:
    """A table and folds for the first 36 of `lesions`; a patient has two lesions that follow each other."""
    folder = tmp_path_factory.mktemp("labels")
    ids = list(lesion_jpegs)[:36]
    patient = np.arange(36) // 2
    target, fold = (np.arange(36) % 5 == 0).astype(np.int64), patient % 3
    groups = [f"P{number:02d}" for number in patient]
    frame = pd.DataFrame({"isic_id": ids, "patient_id": groups, "target": target, "clinic": "A"})
    frame.to_csv(folder / "table.csv", index=False)
    frame[["isic_id"]].assign(group=groups, fold=fold).to_csv(folder / "folds.csv", index=False)
    return LabelledFiles(lesions, folder / "table.csv", folder / "folds.csv", ids, target, groups, fold)


@pytest.fixture(scope="session")
def tiny_finetune(labelled_files: LabelledFiles) -> list[str]:
    """Words for `ssl-isic finetune` that lack `run_dir`: 3 folds, 2 epochs of a tiny network at 32 px."""
    return [
        f"data.images={labelled_files.images}",
        f"data.table={labelled_files.table}",
        f"data.folds={labelled_files.folds}",
        "data.workers=0",
        "image_size=32",
        "backbone.model=test_resnet",
        "sampling.negatives_per_positive=2",
        "optim.warmup_epochs=0.5",
        "loop.epochs=2",
        "loop.batch_size=6",
        "loop.log_every=1",
    ]


@pytest.fixture(scope="session")
def finetuned(tmp_path_factory: pytest.TempPathFactory, tiny_finetune: list[str]) -> Path:
    """A finished fine-tuning run of `tiny_finetune`, not to be written to."""
    from finetune.train import main  # tests that train nothing need not wait for torch

    run_dir = tmp_path_factory.mktemp("runs") / "finetuned"
    assert main([f"run_dir={run_dir}", *tiny_finetune]) == 0
    return run_dir
