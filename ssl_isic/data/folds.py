"""Cross-validation folds that keep a group (patient) together, and the file they are in."""

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ssl_isic.data.splitting import deal_groups
from ssl_isic.data.tables import encode_ids, match_ids, read_table, row_number
from ssl_isic.errors import InputError
from ssl_isic.files import atomic_write

Folds = NDArray[np.int64]


def make_folds(
    ids: Sequence[str], target: NDArray[np.float64], groups: NDArray[np.str_], n_folds: int, seed: int
) -> Folds:
    """The fold of each row, (rows,), 0 to `n_folds` - 1: groups whole, prevalence alike, in any order of rows.

    Raises:
        InputError: fewer than 2 folds; fewer groups with positives, or with negatives, than folds.
    """
    if n_folds < 2:
        raise InputError(f"cross-validation needs 2 or more folds, got {n_folds}; set folds=5")
    for label, name in ((1, "positives"), (0, "negatives")):
        available = np.unique(groups[target == label]).size
        if available < n_folds:
            remedy = "lower folds" if available > 1 else "label more, two folds are the fewest"
            raise InputError(f"{n_folds} folds need {n_folds} groups with {name}, there are {available}; {remedy}")
    order = np.argsort(encode_ids(ids))
    number = np.unique(groups[order], return_inverse=True)[1]
    counts = [np.bincount(number, weights=target[order] == label, minlength=number.max() + 1) for label in (0, 1)]
    fold = np.empty(len(order), dtype=np.int64)
    fold[order] = deal_groups(np.stack(counts, axis=1).astype(np.int64), n_folds, seed)[number]
    return fold


def check_folds(target: NDArray[np.float64], groups: NDArray[np.str_], fold: Folds) -> None:
    """Refuse folds that cannot be scored or that leak.

    Raises:
        InputError: one fold only; a fold without positives or without negatives; a group in two folds.
    """
    numbers = np.unique(fold)
    if numbers.size < 2:
        raise InputError(f"all rows are in fold {numbers[0]}; cross-validation needs 2 or more folds")
    for number in numbers:
        for label, name in ((1, "positives"), (0, "negatives")):
            if not np.any(target[fold == number] == label):
                raise InputError(f"fold {number} has no {name}; make fewer folds or try another seed")
    names, group_of_row = np.unique(groups, return_inverse=True)
    first_fold = np.full(names.size, fold.max())
    np.minimum.at(first_fold, group_of_row, fold)
    leaking = np.flatnonzero(fold != first_fold[group_of_row])
    if leaking.size:
        group = group_of_row[leaking[0]]
        where = " and ".join(str(number) for number in np.unique(fold[group_of_row == group]))
        raise InputError(
            f"group {names[group]} is in folds {where}; a group must stay in one fold, make the folds again"
        )


def write_folds(path: Path, ids: Sequence[str], groups: NDArray[np.str_], fold: Folds) -> None:
    """Write the CSV `isic_id,group,fold`, atomically."""
    with atomic_write(path) as temporary:
        pd.DataFrame({"isic_id": ids, "group": groups, "fold": fold}).to_csv(temporary, index=False)


def read_fold_numbers(path: Path) -> tuple[pd.DataFrame, Folds]:
    """The table at `path`, and the fold of each of its rows (rows,).

    Raises:
        InputError: what `read_table` refuses; a fold that is not 0, 1, 2, ...
    """
    table = read_table(path, ["fold"])
    number = pd.to_numeric(table["fold"], errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    broken = np.flatnonzero(~((number >= 0) & (number == np.floor(number)) & np.isfinite(number)))
    if broken.size:
        value, row = table["fold"].iloc[broken[0]], row_number(table, broken[0])
        raise InputError(f"{path}: fold must be 0, 1, 2 or so on, got {value} in row {row}; make the folds again")
    return table, number.astype(np.int64)


def read_folds(path: Path, ids: Sequence[str]) -> Folds:
    """The folds in the file at `path` of `ids`, (ids,); the file may hold more ids than these.

    Raises:
        InputError: what `read_table` refuses; a fold that is not 0, 1, 2, ...; ids that have no fold.
    """
    table, number = read_fold_numbers(path)
    stored = encode_ids(table["isic_id"])
    order = np.argsort(stored)
    match = match_ids(ids, stored[order])
    if match.missing:
        count, first = len(match.missing), match.missing[0]
        raise InputError(f"{path}: {count} of {len(ids)} ids have no fold, the first is {first}; make the folds again")
    return number[order][match.rows]


def ids_hash(ids: Iterable[str]) -> str:
    """SHA-256 of the ids in sorted order, one a line: equal for equal sets of images."""
    return hashlib.sha256("\n".join(sorted(ids)).encode()).hexdigest()


def fold_report(target: NDArray[np.float64], groups: NDArray[np.str_], fold: Folds) -> str:
    """A table for the terminal: rows, positives, groups and prevalence of each fold and of all."""
    every = np.ones(fold.size, dtype=bool)
    parts: list[tuple[Any, NDArray[np.bool_]]] = [(number, fold == number) for number in np.unique(fold)]
    lines = [f"{'fold':>4} {'rows':>8} {'positives':>9} {'groups':>8} {'prevalence':>10}"]
    for name, rows in [*parts, ("all", every)]:
        lines.append(
            f"{name:>4} {rows.sum():>8} {int(target[rows].sum()):>9} {np.unique(groups[rows]).size:>8} "
            f"{target[rows].mean():>10.3%}"
        )
    return "\n".join(lines)
