"""What the tables say of a pool's images, as small whole numbers: 4 bytes an image and column, whatever the text."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field

from ssl_isic.config import Config
from ssl_isic.data.images import ImagePool
from ssl_isic.data.tables import match_ids, read_table, require_column, row_number
from ssl_isic.errors import InputError

Codes = NDArray[np.int32]
AGE = "age"
TARGET = "target"
YEARS = 10


def _as_names(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


Names = Annotated[tuple[str, ...], BeforeValidator(_as_names), Field(min_length=1)]
"""Names that a column may have, the first that is there counts; a word alone is one of them."""


class ColumnsConfig(Config):
    """The columns of the tables, each by the names it may have."""

    target: Names = ("target",)
    """Malignant or not, 1 or 0."""
    diagnosis: Names = ("diagnosis", "dx", "diagnostic", "iddx_full")
    """What it is."""
    clinic: Names = ("attribution", "clinic")
    """Where it was taken."""
    sex: Names = ("sex", "gender")
    """The patient's sex."""
    age: Names = ("age_approx", "age")
    """The patient's age, years."""
    site: Names = ("anatom_site_general", "localization", "region")
    """Where on the body it is."""
    patient: Names = ("patient_id",)
    """Whose skin it is."""
    lesion: Names = ("lesion_id",)
    """Which lesion it is."""


@dataclass(frozen=True)
class Column:
    """One column over the whole pool. `codes` (N,) are places in `values`, -1 where nothing is said."""

    codes: Codes
    values: Sequence[str]
    found: Mapping[str, str]
    """By source, the name under which its table has the column."""

    def counts(self, rows: NDArray[np.bool_]) -> NDArray[np.int64]:
        """How many of `rows` (N,) have each of the values (V,)."""
        return np.bincount(self.codes[rows & (self.codes >= 0)], minlength=len(self.values))


@dataclass
class SourceTable:
    """What is to be said of one source's table as a whole."""

    path: Path
    rows: int
    missing: dict[str, int] = field(default_factory=dict)
    """By column, how many rows have nothing in it."""
    tell: dict[str, float] = field(default_factory=dict)
    """By column with gaps, the AUC at which a gap alone tells the target."""
    without_image: list[str] = field(default_factory=list)
    """Ids of rows whose image is not in the source."""
    no_labels: int = 0
    """Rows whose target is neither 0, 1 nor empty."""
    first_no_label: str = ""
    """The first of them: its row and what stands there."""


@dataclass(frozen=True)
class Annotations:
    """What the tables say. `target` (N,) is 1, 0, or -1 where it is not known; `has_row` (N,)."""

    columns: Mapping[str, Column]
    target: NDArray[np.int8]
    has_row: NDArray[np.bool_]
    tables: Mapping[str, SourceTable]


def read_annotations(pool: ImagePool, tables: Mapping[str, Path], names: ColumnsConfig) -> Annotations:
    """Join the tables with the pool, each with the images of its source.

    Raises:
        InputError: a table of no source; one that is missing or no table; one with no id among its images; a column that
            was asked for and that no table has.
    """
    unknown = sorted(tables.keys() - set(pool.names))
    if unknown:
        raise InputError(f"data.tables.{unknown[0]}: there is no such source; data.sources has {', '.join(pool.names)}")
    roles = list(ColumnsConfig.model_fields)
    texts = {role: _Gathered(len(pool)) for role in roles}
    target, has_row = np.full(len(pool), -1, np.int8), np.zeros(len(pool), bool)
    facts = dict[str, SourceTable]()
    for source, path in tables.items():
        table = read_table(path)
        start, store_ids = pool.slice_of(source)
        match = match_ids(table["isic_id"].astype(str), store_ids)
        if len(match.missing) == len(table):
            raise InputError(
                f"none of the {len(table)} ids of {path} is among the images of {source}; do they belong together?"
            )
        here, rows = match.rows >= 0, start + match.rows[match.rows >= 0]
        has_row[rows] = True
        facts[source] = SourceTable(path, len(table), without_image=match.missing)
        for role in roles:
            name = next((name for name in getattr(names, role) if name in table), None)
            if name is not None:
                texts[role].add(source, name, rows, _as_text(table[name], role)[here])
        labels = _labels(table, texts[TARGET].found.get(source), facts[source])
        target[rows] = labels[here]
        _note_gaps(table, labels, facts[source])
    _check_asked(names, texts, tables)
    return Annotations({role: text.column(role) for role, text in texts.items()}, target, has_row, facts)


class _Gathered:
    """A column that is put together source by source."""

    def __init__(self, images: int) -> None:
        self.codes = np.full(images, -1, np.int32)
        self.numbers = dict[str, int]()
        self.found = dict[str, str]()

    def add(self, source: str, name: str, rows: NDArray[np.int64], texts: "pd.Series[str]") -> None:
        """Give the images `rows` (R,) the values `texts` (R,), of which some are missing."""
        codes, values = pd.factorize(texts)
        numbers = [self.numbers.setdefault(str(value), len(self.numbers)) for value in values]
        self.codes[rows] = np.array([*numbers, -1], np.int32)[codes]  # factorize says -1 of what is missing
        self.found[source] = name

    def column(self, role: str) -> Column:
        """The column, its values in the order of their age or their alphabet."""
        values = list(self.numbers)
        order = sorted(range(len(values)), key=lambda code: _age_first(values[code]) if role == AGE else values[code])
        place = np.empty(len(values) + 1, np.int32)
        place[order], place[-1] = np.arange(len(values)), -1
        return Column(place[self.codes], [values[code] for code in order], self.found)


def _age_first(decade: str) -> str:
    return decade.partition("-")[0].zfill(4)


def _as_text(values: "pd.Series[Any]", role: str) -> "pd.Series[str]":
    """The values as text, missing where they are; ages by decade."""
    if role != AGE:
        text = values.astype(object).where(values.notna(), None)
        return text.map(lambda value: str(value).strip() or None, na_action="ignore")
    years = pd.to_numeric(values, errors="coerce")
    decade = years.where(years >= 0) // YEARS * YEARS
    return decade.map(lambda first: f"{first:.0f}-{first + YEARS - 1:.0f}", na_action="ignore")


def _labels(table: pd.DataFrame, column: str | None, facts: SourceTable) -> NDArray[np.int8]:
    """1, 0 or -1 for each row (R,); what is no label is noted."""
    if column is None:
        return np.full(len(table), -1, np.int8)
    number = pd.to_numeric(table[column], errors="coerce").to_numpy(np.float64, na_value=np.nan)
    known = (number == 0) | (number == 1)
    wrong = np.flatnonzero(~known & table[column].notna().to_numpy())
    if wrong.size:
        facts.no_labels = wrong.size
        facts.first_no_label = f"{table[column].iloc[wrong[0]]} in row {row_number(table, wrong[0])}"
    return np.where(known, number, -1).astype(np.int8)


def _note_gaps(table: pd.DataFrame, labels: NDArray[np.int8], facts: SourceTable) -> None:
    positive, negative = labels == 1, labels == 0
    for name in table.columns:
        gap = table[name].isna().to_numpy()
        facts.missing[str(name)] = int(gap.sum())
        if gap.any() and not gap.all() and positive.any() and negative.any():
            told = (1 + gap[positive].mean() - gap[negative].mean()) / 2
            facts.tell[str(name)] = float(max(told, 1 - told))


def _check_asked(names: ColumnsConfig, texts: Mapping[str, _Gathered], tables: Mapping[str, Path]) -> None:
    """Refuse a column that the configuration names and that is nowhere."""
    for role in names.model_fields_set:
        asked = getattr(names, role)
        if texts[role].found:
            continue
        if not tables:
            raise InputError(f"columns.{role} needs a table; set data.tables.SOURCE=CSV")
        *_, path = tables.values()
        try:
            require_column(list(pd.read_csv(path, nrows=0).columns), asked[0], path)
        except InputError as error:
            raise InputError(f"columns.{role}: {error}") from None
