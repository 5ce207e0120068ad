"""What an inspection leaves for programs: `report.json`, and `duplicates.csv` with every set of images."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ssl_isic.files import atomic_write, write_json
from ssl_isic.inspection.clinic_colour import colours_by_clinic
from ssl_isic.inspection.counting import Share, counts_of, share_of, sizes_of
from ssl_isic.inspection.finding import Finding
from ssl_isic.inspection.inspected import FOLD, Inspected
from ssl_isic.inspection.scanning import State
from ssl_isic.inspection.sets import ImageSets, shared_between

MOST_IDS = 1000
"""Ids in one list of the JSON; its count is of all."""


def write_report(seen: Inspected, findings: Sequence[Finding], path: Path) -> None:
    """Write everything that was counted as JSON, null where a figure is not defined."""
    every = np.ones(len(seen.pool), bool)
    roles = [role for role in seen.rows.columns if role not in ("target", "patient", "lesion")]
    report = {
        "wrong": sum(finding.wrong for finding in findings),
        "findings": [finding._asdict() | {"wrong": finding.wrong} for finding in findings],
        "images": len(seen.pool),
        "sources": {name: _source(seen, number) for number, name in enumerate(seen.pool.names)},
        "prevalence": _share(share_of(seen.rows.target, every)),
        "columns": {role: seen.rows.columns[role].found for role in seen.rows.columns},
        "counts": {role: _counts(seen, role) for role in roles},
        "duplicates": {kind: _sets(sets) for kind, sets in seen.sets.items()},
        "overlap": {kind: _overlap(seen, sets) for kind, sets in seen.sets.items()},
        "lesions_with_several_photographs": _sets(seen.lesions),
        "colour": _colour(seen),
        "folds": _folds(seen),
    }
    write_json(path, report)


def write_sets(seen: Inspected, path: Path) -> None:
    """Write a CSV with a row for each image of each set: kind, set, source, isic_id and what is known of it."""
    parts = []
    for kind, sets in (*seen.sets.items(), ("lesion", seen.lesions)):
        rows = sets.members.tolist()
        columns: dict[str, Any] = {
            "kind": kind,
            "set": sets.number,
            "source": [seen.pool.source_of(row) for row in rows],
            "isic_id": [seen.pool.id_of(row) for row in rows],
            **{
                role: [seen.says(role, row) for row in rows]
                for role in ("target", "diagnosis", "patient", "lesion", FOLD)
            },
        }
        parts.append(pd.DataFrame(columns))
    with atomic_write(path) as temporary:
        pd.concat(parts).to_csv(temporary, index=False)


def _source(seen: Inspected, number: int) -> dict[str, Any]:
    name, own = seen.pool.names[number], seen.source == number
    state = seen.records["state"]
    table, sizes = seen.rows.tables.get(name), sizes_of(seen.records[own])
    return {
        "path": str(seen.pool.stores[number].path),
        "images": int(own.sum()),
        **{
            kind.name.lower(): _ids(seen, np.flatnonzero(own & (state == kind)))
            for kind in State
            if kind is not State.FINE
        },
        "sizes": None if sizes is None else sizes._asdict(),
        "prevalence": _share(share_of(seen.rows.target, own)),
        "table": None
        if table is None
        else {
            "path": str(table.path),
            "rows": table.rows,
            "rows_without_image": {"count": len(table.without_image), "ids": table.without_image[:MOST_IDS]},
            "images_without_row": _ids(seen, np.flatnonzero(own & ~seen.rows.has_row)),
            "missing": table.missing,
            "auc_of_a_gap_for_the_target": table.tell,
            "targets_that_are_no_label": table.no_labels,
        },
    }


def _ids(seen: Inspected, rows: "np.ndarray[Any, Any]") -> dict[str, Any]:
    return {"count": len(rows), "ids": [seen.pool.id_of(row) for row in rows[:MOST_IDS].tolist()]}


def _share(share: Share) -> dict[str, Any]:
    return {name: _defined(value) for name, value in share._asdict().items()}


def _defined(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _counts(seen: Inspected, role: str) -> dict[str, Any]:
    counts = counts_of(role, seen.rows.columns[role], seen.rows.target, np.ones(len(seen.pool), bool))
    values = [{"value": one.value, "images": one.images, "prevalence": _share(one.share)} for one in counts.values]
    return {"not_said": counts.missing, "values": values}


def _sets(sets: ImageSets) -> dict[str, int]:
    return {"sets": len(sets), "images": len(sets.members), "largest": int(sets.sizes.max(initial=0))}


def _overlap(seen: Inspected, sets: ImageSets) -> dict[str, dict[str, int]]:
    """By source, how many of its images have a mate in each other source."""
    names, shared = seen.pool.names, shared_between(sets, seen.source, len(seen.pool.names))
    return {
        one: {other: int(shared[row, column]) for column, other in enumerate(names) if column != row}
        for row, one in enumerate(names)
    }


def _colour(seen: Inspected) -> dict[str, Any]:
    codes, names = seen.clinics
    found = colours_by_clinic(seen.records["colour"][seen.readable], codes[seen.readable], names)
    told = seen.told
    clinics = [
        {"clinic": one.clinic, "images": one.images, "mean_lab": one.mean.tolist(), "spread_lab": one.spread.tolist()}
        for one in found
    ]
    return {"clinics": clinics, "told": None if told is None else told._asdict() | {"recall": told.recall.tolist()}}


def _folds(seen: Inspected) -> list[dict[str, Any]] | None:
    if seen.folds is None:
        return None
    parts = seen.folds.parts(seen.rows.target)
    return [
        {"fold": part.number, "images": part.images, "groups": part.groups, "prevalence": _share(part.share)}
        for part in parts
    ]
