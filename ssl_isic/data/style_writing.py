"""`ssl-isic styles`: the styles of clinics from a sample of their images."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from tqdm import tqdm

from ssl_isic.config import Config, Seed
from ssl_isic.data.augmentations.colour import Image
from ssl_isic.data.augmentations.fourier_style import low_amplitudes
from ssl_isic.data.augmentations.reinhard import LabStatistics, skin_statistics
from ssl_isic.data.decoding import ImageDecodeError, decode_rgb
from ssl_isic.data.images import open_store
from ssl_isic.data.store import JpegStore
from ssl_isic.data.styles import ClinicRecord, StylesRecord
from ssl_isic.data.tables import match_ids, read_table
from ssl_isic.errors import InputError
from ssl_isic.files import write_json


class StylesConfig(Config):
    """Write the styles of clinics, for the steps `reinhard_style` and `fourier_style` of views."""

    images: Path
    """HDF5 file or folder of images."""
    out: Path = Path("styles.json")
    """File to write."""
    table: Path | None = None
    """CSV with isic_id and the clinic; null takes all images as one style."""
    clinic: str = "attribution"
    """Column of the clinic; rows without one are not used."""
    per_clinic: int = Field(200, ge=1)
    """Images of a clinic that are looked at, a random sample."""
    least: int = Field(20, ge=1)
    """A clinic with fewer images is left out: they would be no style but a case."""
    highest: int = Field(1, ge=0, le=8)
    """Highest frequency of the amplitudes, cycles an image; at 2 and above a lesion's size becomes style."""
    seed: Seed = 0
    """Another seed samples other images."""


def write_styles(config: StylesConfig) -> StylesRecord:
    """Write the file; returns what is in it.

    Raises:
        InputError: anything wrong with the images or the table; no clinic has enough images.
    """
    store = open_store(config.images)
    samples, left_out = [], []
    rng = np.random.default_rng(config.seed)
    for name, rows in _rows_by_clinic(config, store).items():
        if len(rows) < config.least:
            left_out.append(name)
        else:
            samples.append((name, rng.permutation(rows)[: config.per_clinic]))
    if not samples:
        raise InputError(f"no clinic has least={config.least} images in {config.images}; lower least")
    if left_out:
        print(f"left out, with fewer than {config.least} images: {', '.join(left_out)}")
    clinics = [_style(store, name, rows, config) for name, rows in samples]
    record = StylesRecord(clinics=clinics)
    write_json(config.out, record.model_dump())
    return record


def _rows_by_clinic(config: StylesConfig, store: JpegStore) -> dict[str, NDArray[np.intp]]:
    """The positions of each clinic's images in the store, by its name."""
    if config.table is None:
        return {config.images.stem: np.arange(len(store.ids))}
    table = read_table(config.table, [config.clinic])
    rows = match_ids([str(value) for value in table["isic_id"]], store.ids).rows
    clinic = table[config.clinic].where(rows >= 0)
    return {str(name): rows[clinic == name] for name in sorted(clinic.dropna().unique(), key=str)}


def _style(store: JpegStore, name: str, rows: NDArray[np.intp], config: StylesConfig) -> ClinicRecord:
    skins, amplitudes = list[LabStatistics](), []
    for image in _decoded(store, tqdm(rows.tolist(), desc=name[:24], unit="image")):
        skin = skin_statistics(image)
        if skin is not None:
            skins.append(skin)
            amplitudes.append(low_amplitudes(image, config.highest))
    if not skins:
        raise InputError(f"{config.images}: no image of {name} decodes and shows skin at its edge")
    mean, spread = (np.mean(values, axis=0).round(3).tolist() for values in zip(*map(_numbers, skins), strict=True))
    block = np.mean(amplitudes, axis=0).round(3).tolist()
    return ClinicRecord(name=name, images=len(skins), skin_mean=mean, skin_spread=spread, amplitudes=block)


def _numbers(skin: LabStatistics) -> tuple[Sequence[float], Sequence[float]]:
    return skin.mean, skin.spread


def _decoded(store: JpegStore, rows: "tqdm[int]") -> Iterator[Image]:
    for row in rows:
        try:
            yield decode_rgb(store.read(row))
        except ImageDecodeError:
            continue
