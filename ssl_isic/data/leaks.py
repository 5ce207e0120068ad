"""Leaks: two rows in different folds that share a patient, a lesion or a picture."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ssl_isic.data.folds import Folds
from ssl_isic.data.grouping import Columns, Texts
from ssl_isic.data.near_duplicates import Pairs
from ssl_isic.errors import InputError

NEAR_DUPLICATES = "near-duplicates"
REMEDY = "make the folds again with ssl-isic folds, which keeps them together"
LEAK_COLUMNS = ("what", "value", "isic_id", "fold", "other_isic_id", "other_fold")


def split_values(values: Texts, fold: Folds) -> Pairs:
    """Pairs of rows (P, 2) with the same value in different folds: the value's first row, and each that is elsewhere."""
    known = np.flatnonzero(values != "")
    first, number = np.unique(values[known], return_index=True, return_inverse=True)[1:]
    pairs = np.stack([known[first[number]], known], axis=1)
    return split_pairs(pairs, fold)


def split_pairs(pairs: Pairs, fold: Folds) -> Pairs:
    """Those of the pairs of rows (P, 2) that are in different folds."""
    apart: Pairs = pairs[fold[pairs[:, 0]] != fold[pairs[:, 1]]]
    return apart


def leaks(ids: Sequence[str], fold: Folds, columns: Columns, pairs: Pairs) -> pd.DataFrame:
    """A line for each row whose value of one of `columns`, or whose picture by `pairs`, is in another fold too."""
    lines: list[pd.DataFrame] = []
    names = np.array(ids)
    found = {name: split_values(values, fold) for name, values in columns.items()}
    for what, rows in {**found, NEAR_DUPLICATES: split_pairs(pairs, fold)}.items():
        one, other = rows[:, 0], rows[:, 1]
        value = columns[what][one] if what in columns else ""
        cells = (what, value, names[one], fold[one], names[other], fold[other])
        lines.append(pd.DataFrame(dict(zip(LEAK_COLUMNS, cells, strict=True)), index=range(len(rows))))
    return pd.concat(lines, ignore_index=True)


def refuse_leaks(leaking: pd.DataFrame, path: Path, remedy: str = REMEDY) -> None:
    """Raise an InputError that counts the leaks of the folds at `path` and names the first, unless there are none."""
    if leaking.empty:
        return
    first = leaking.iloc[0]
    subject = f"{first['what']} {first['value']}".strip()
    verb = "are" if first["what"] == NEAR_DUPLICATES else "is"
    counts = ", ".join(f"{count} by {what}" for what, count in leaking["what"].value_counts(sort=False).items())
    raise InputError(
        f"{path} leaks: {subject} {verb} in folds {first['fold']} and {first['other_fold']} "
        f"({first['isic_id']} and {first['other_isic_id']}); rows that leak: {counts}; "
        f"{remedy}"
    )
