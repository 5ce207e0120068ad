"""From the columns of one table to ours: what each value becomes, and which values nothing is known of.

All cells are text, "" where there is none.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pandas as pd

from ssl_isic.data.preparing.settings import VOCABULARY, ColumnRule
from ssl_isic.errors import InputError

Known = Callable[[str], str | None]
"""What a value of the source becomes, "" for known to be none of ours, None for not known."""


@dataclass
class Unmapped:
    """Values of the source that became nothing, with how many rows have them."""

    unknown: Counter[str] = field(default_factory=Counter)
    """Those that the rule does not name."""
    left_empty: Counter[str] = field(default_factory=Counter)
    """Those that the rule names as null."""

    def add(self, other: "Unmapped") -> None:
        """Count the rows of another table too."""
        self.unknown.update(other.unknown)
        self.left_empty.update(other.left_empty)


class Mapped(NamedTuple):
    """One of our columns, from one table."""

    values: pd.Series
    """(rows,), by id; "" where it is empty."""
    given: pd.Series
    """Whether the source says anything at all, (rows,)."""
    unmapped: Unmapped


def mapped_column(table: pd.DataFrame, name: str, rule: ColumnRule, where: str) -> Mapped | None:
    """Our column `name` of a table whose index is the ids; None where the table has none of the columns that it needs.

    Raises:
        InputError: a one-hot column that is not there, or neither 0 nor 1, or two of them in a row; `where` is the table.
    """
    if rule.one_hot:
        present = [column for column in rule.one_hot if column in table.columns]
        if present and len(present) < len(rule.one_hot):
            lacking = ", ".join(column for column in rule.one_hot if column not in present)
            raise InputError(f"{where} has {present[0]}, but no {lacking}; mend columns.{name}.one_hot")
        return _from_one_hot(table, rule, where) if present else None
    present = [column for column in rule.columns if column in table.columns]
    if not present:
        return None
    return _first_known(table, present, _lookup(name, rule))


def _lookup(name: str, rule: ColumnRule) -> Known:
    exact = {key.casefold(): value or "" for key, value in rule.values.items() if not key.endswith("*")}
    starts = {key[:-1].casefold(): value or "" for key, value in rule.values.items() if key.endswith("*")}
    own = {word.casefold(): word for word in VOCABULARY.get(name, ())}

    def known(value: str) -> str | None:
        folded = value.casefold()
        if folded in exact:
            return exact[folded]
        for start in sorted(starts, key=len, reverse=True):
            if folded.startswith(start):
                return starts[start]
        if name == "age_approx":
            return value if _number(value) is not None else None
        if name == "target":
            folded = folded.removesuffix(".0")  # as tables of floats write it
        if name in VOCABULARY:
            return own.get(folded)
        return rule.prefix + value

    return known


def _first_known(table: pd.DataFrame, columns: Sequence[str], known: Known) -> Mapped:
    found = pd.Series("", index=table.index, dtype=object)
    shown = found.copy()  # the value that decides, or, where none is known, the first
    decided = pd.Series(False, index=table.index)
    for column in columns:
        raw = table[column].str.strip()
        results = {value: known(value) for value in raw.unique() if value}
        shown = shown.where(shown != "", raw)
        here = ~decided & raw.isin([value for value, result in results.items() if result is not None])
        found[here] = raw[here].map(results)
        shown[here] = raw[here]
        decided |= here
    unmapped = Unmapped(
        Counter(shown[~decided & (shown != "")].tolist()), Counter(shown[decided & (found == "")].tolist())
    )
    return Mapped(found, shown != "", unmapped)


def _from_one_hot(table: pd.DataFrame, rule: ColumnRule, where: str) -> Mapped:
    names = list(rule.one_hot)
    numbers = table[names].apply(pd.to_numeric, errors="coerce").to_numpy(dtype=np.float64)
    wrong = np.argwhere((numbers != 0) & (numbers != 1))
    if wrong.size:
        row, column = wrong[0]
        value = table[names[column]].iloc[row]
        raise InputError(f"{where}: {names[column]} must be 0 or 1, got {value or 'nothing'} for {table.index[row]}")
    several = np.flatnonzero(numbers.sum(axis=1) > 1)
    if several.size:
        both = " and ".join(names[k] for k in np.flatnonzero(numbers[several[0]])[:2])
        raise InputError(f"{where}: {table.index[several[0]]} is both {both} ({several.size} such rows); which is it?")
    any_set = numbers.any(axis=1)
    chosen = np.array(names, dtype=object)[numbers.argmax(axis=1)]
    result = [
        rule.one_hot[name] or "" if is_set else rule.otherwise or ""
        for name, is_set in zip(chosen, any_set, strict=True)
    ]
    empty = [
        name if is_set else "all 0" for name, is_set, value in zip(chosen, any_set, result, strict=True) if not value
    ]
    every = pd.Series(True, index=table.index)
    return Mapped(pd.Series(result, index=table.index, dtype=object), every, Unmapped(left_empty=Counter(empty)))


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if np.isfinite(value) else None
