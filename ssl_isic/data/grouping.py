"""Which rows of a table stay together: those that share a patient, a lesion, or a picture, by any chain of these."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import model_validator

from ssl_isic.config import Config
from ssl_isic.data.near_duplicates import Pairs, connected
from ssl_isic.data.tables import NO_GROUPS, read_groups, read_texts, row_number
from ssl_isic.errors import InputError

Texts = NDArray[np.str_]
Columns = Mapping[str, Texts]
"""Values (N,) by the column's name; "" where there is none, which is nobody's."""

IDENTITIES = ("patient_id", "lesion_id")
"""Columns that say whose skin it is: a value of theirs in two folds is a leak whether or not a configuration names them."""


class GroupColumns(Config):
    """The columns whose values stay in one fold."""

    group: str = "patient_id"
    """Column whose values stay in one fold; `none` where the source knows no patients."""
    groups: list[str] = []
    """Several such columns in place of `group`: rows that share a value of any stay together; an empty value is no one's."""

    @model_validator(mode="after")
    def _one_of_them(self) -> "GroupColumns":
        if self.groups and self.group not in ("patient_id", *self.groups):
            raise ValueError(f"group={self.group} is not among groups; name it there too, or leave group out")
        return self

    def group_columns(self) -> list[str]:
        """The names of the columns, one at least; `none` is the column of ids."""
        named = self.groups or [self.group]
        return ["isic_id" if name == NO_GROUPS else name for name in named]


def read_columns(table: pd.DataFrame, names: Sequence[str], path: Path) -> dict[str, Texts]:
    """The values (N,) of the columns `names`. A single column has to be full; of several each row has one at least.

    Raises:
        InputError: no such column; a row without any value.
    """
    if len(names) == 1:
        return {names[0]: read_groups(table, names[0], path)}
    columns = {name: read_texts(table, name, path) for name in names}
    empty = np.flatnonzero(np.all([values == "" for values in columns.values()], axis=0))
    if empty.size:
        raise InputError(
            f"{path}: {' and '.join(names)} are empty in row {row_number(table, empty[0])} ({empty.size} such rows); "
            "fill one in, drop the rows, or add isic_id to the columns, by which such a row is a group of its own"
        )
    return columns


def identities(table: pd.DataFrame, path: Path) -> dict[str, Texts]:
    """Those columns of the table that say whose skin it is, whether or not every row has a value."""
    return {name: read_texts(table, name, path) for name in IDENTITIES if name in table}


def joined(columns: Columns, pairs: Pairs) -> NDArray[np.int64]:
    """A number for each row (N,), the same for rows that a chain of shared values and of `pairs` (P, 2) connects."""
    links = [pairs]
    for values in columns.values():
        known = np.flatnonzero(values != "")
        first, number = np.unique(values[known], return_index=True, return_inverse=True)[1:]
        links.append(np.stack([known[first[number]], known], axis=1))
    return connected(len(next(iter(columns.values()))), np.concatenate(links))


def texts_hash(ids: Sequence[str], values: Iterable[Any]) -> str:
    """SHA-256 of each id's value, a line each, in the order of the ids: whatever the order of rows."""
    lines = sorted(f"{name}\t{value}" for name, value in zip(ids, values, strict=True))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def group_names(ids: Sequence[str], columns: Columns, pairs: Pairs) -> Texts:
    """The name of each row's group (N,): its value where there is one column and no pairs, else the least id of the group."""
    if len(columns) == 1 and not len(pairs):
        return next(iter(columns.values()))
    number = joined(columns, pairs)
    order = np.argsort(np.array(ids))
    _, first, of_row = np.unique(number[order], return_index=True, return_inverse=True)
    names = np.empty(len(ids), np.array(ids).dtype)
    names[order] = np.array(ids)[order][first][of_row]
    return names
