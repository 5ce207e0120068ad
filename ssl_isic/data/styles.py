"""Styles of clinics: how light and colour are there, as a few numbers in a JSON file, so that no image is needed to train."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ssl_isic.data.augmentations.fourier_style import Amplitudes
from ssl_isic.data.augmentations.reinhard import LabStatistics
from ssl_isic.errors import InputError

Lab = tuple[float, float, float]


class ClinicRecord(BaseModel):
    """One clinic as it stands in the file."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)
    name: str
    images: int = Field(ge=1)
    """How many the numbers are the means of."""
    skin_mean: Lab
    skin_spread: Lab
    """See `LabStatistics`."""
    amplitudes: list[list[Lab]]
    """See `fourier_style.Amplitudes`."""

    @model_validator(mode="after")
    def _is_a_block(self) -> "ClinicRecord":
        across = {len(row) for row in self.amplitudes}
        if len(across) != 1 or len(self.amplitudes) != 2 * across.pop() - 1:
            raise ValueError("amplitudes must be 2K + 1 rows of K + 1")
        return self


class StylesRecord(BaseModel):
    """The file."""

    model_config = ConfigDict(extra="forbid")
    clinics: list[ClinicRecord] = Field(min_length=1)


@dataclass(frozen=True)
class Clinic:
    """The style of one clinic."""

    name: str
    skin: LabStatistics
    amplitudes: Amplitudes


@dataclass(frozen=True)
class Styles:
    """Those of several."""

    clinics: tuple[Clinic, ...]


def read_styles(path: Path) -> Styles:
    """Read what `ssl-isic styles` wrote.

    Raises:
        InputError: no such file, or something else in it.
    """
    try:
        found = StylesRecord.model_validate_json(path.read_bytes())
    except OSError as error:
        raise InputError(
            f"cannot read the styles {path}: {error.strerror}; write them with `ssl-isic styles`"
        ) from None
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(str(part) for part in fault["loc"])
        raise InputError(f"{path} holds no styles: {where} {fault['msg']}; write them with `ssl-isic styles`") from None
    return Styles(
        tuple(
            Clinic(one.name, LabStatistics(one.skin_mean, one.skin_spread), np.array(one.amplitudes))
            for one in found.clinics
        )
    )
