"""What `prepare` says at the end: counts, and all that could not be mapped, matched or read."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from ssl_isic.data.preparing.column_mapping import Unmapped
from ssl_isic.data.preparing.settings import VOCABULARY
from ssl_isic.data.preparing.source_tables import SourceTable

SHOWN = 5
"""Values and ids named on the terminal; the file names all values and `LISTED` ids."""
LISTED = 1000


def report_of(
    ids: Sequence[str],
    table: SourceTable,
    rows: pd.DataFrame,
    skipped: Sequence[str],
    spooled: Mapping[str, Sequence[str]],
) -> dict[str, Any]:
    """The report as JSON; `rows` are those written, `spooled` the changes and faults of all images, by `ids`."""
    faults = {name: fault for name, fault in zip(ids, spooled["faults"], strict=True) if fault}
    known = set(ids)
    with_row = set(table.rows.index)
    return {
        "images": len(ids) - len(faults),
        "rows": len(rows),
        "changed": dict(Counter(change for change in spooled["changes"] if change)),
        "unreadable": faults,
        "files_skipped": _listed(skipped),
        "rows_without_image": _listed([name for name in table.rows.index if name not in known]),
        "images_without_row": _listed([name for name in ids if name not in with_row] if with_row else []),
        "not_linked": _listed([name for name in table.unlinked if name in known]),
        "columns": {name: _column(rows, name, unmapped) for name, unmapped in table.unmapped.items()},
        "columns_absent": table.absent,
    }


def lines_of(report: Mapping[str, Any]) -> Iterator[str]:
    """The report for a terminal: only what there is."""
    for name, column in report["columns"].items():
        if column["counts"]:
            yield f"  {name}: {_counts(column['counts'])}"
        if column["unknown"]:
            yield (
                f"  {name}: {sum(column['unknown'].values())} rows stay empty, with values that columns.{name}.values "
                f"does not name: {_counts(column['unknown'])}"
            )
        if column["left_empty"]:
            yield f"  {name}: {sum(column['left_empty'].values())} rows left empty on purpose: {_counts(column['left_empty'])}"
    if report["columns_absent"]:
        yield f"  no table says anything of {', '.join(report['columns_absent'])}"
    for key, what in (
        ("rows_without_image", "rows have no image and are left out"),
        ("images_without_row", "images have no row"),
        ("not_linked", "images are of no row of the linked table"),
        ("files_skipped", "files are no image of this source"),
    ):
        if report[key]["count"]:
            yield f"  {report[key]['count']} {what}: {_some(report[key]['first'], report[key]['count'])}"
    for change, count in report["changed"].items():
        yield f"  {count} images {change}"
    if report["unreadable"]:
        faults = [f"{name} ({fault})" for name, fault in report["unreadable"].items()]
        yield f"  {len(faults)} images do not decode and are left out: {_some(faults, len(faults))}"


def _column(rows: pd.DataFrame, name: str, unmapped: Unmapped) -> dict[str, Any]:
    values = rows[name] if name in rows else pd.Series([], dtype=object)
    return {
        "filled": int((values != "").sum()),
        "counts": _by_count(Counter(values[values != ""].tolist())) if name in VOCABULARY else {},
        "unknown": _by_count(unmapped.unknown),
        "left_empty": _by_count(unmapped.left_empty),
    }


def _by_count(counter: Counter[str]) -> dict[str, int]:
    return dict(sorted(counter.items(), key=lambda item: (-item[1], item[0])))


def _listed(names: Sequence[str]) -> dict[str, Any]:
    return {"count": len(names), "first": list(names[:LISTED])}


def _counts(counts: Mapping[str, int]) -> str:
    shown = ", ".join(f"{value} {count}" for value, count in list(counts.items())[: 2 * SHOWN])
    return shown + (f" and {len(counts) - 2 * SHOWN} more" if len(counts) > 2 * SHOWN else "")


def _some(names: Sequence[str], count: int) -> str:
    return ", ".join(names[:SHOWN]) + (" ..." if count > SHOWN else "")
