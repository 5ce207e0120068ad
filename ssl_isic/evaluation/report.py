"""The report of a comparison: rows for CSV and JSON, and tables in Markdown for people."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Row = Mapping[str, Any]

BACKBONE, RANDOM, COLOUR = "backbone", "random", "colour"
BOOTSTRAP = "95 % bootstrap of groups"
COLUMNS = (
    "name",
    "kind",
    "model",
    "weights",
    "interval",
    "size",
    *(
        f"{metric}{end}"
        for metric in (
            "knn_auc",
            "knn_pauc",
            "probe_auc",
            "probe_pauc",
            "knn_auc_minus_colour",
            "knn_pauc_minus_colour",
            "probe_auc_minus_colour",
            "probe_pauc_minus_colour",
            "rankme",
            "alpha_req",
        )
        for end in ("", "_low", "_high")
    ),
)
_SHOWN = {  # digits in the printed table
    "knn_auc": 3,
    "knn_pauc": 4,
    "probe_auc": 3,
    "probe_pauc": 4,
    "knn_auc_minus_colour": 3,
    "knn_pauc_minus_colour": 4,
    "probe_auc_minus_colour": 3,
    "probe_pauc_minus_colour": 4,
    "rankme": 1,
    "alpha_req": 2,
}
_HEADS = (
    "features",
    "numbers",
    "kNN AUC",
    "kNN pAUC",
    "probe AUC",
    "probe pAUC",
    "kNN AUC - colour",
    "kNN pAUC - colour",
    "probe AUC - colour",
    "probe pAUC - colour",
    "RankMe",
    "alpha-ReQ",
)


def over_seeds(rows: Sequence[Row], name: str) -> dict[str, Any]:
    """One row for several seeds of the same network: the mean of each metric, and its least and largest value."""
    summary: dict[str, Any] = {**rows[0], "name": name, "interval": f"range of {len(rows)} seeds"}
    for metric in _SHOWN:
        values = [row[metric] for row in rows if row.get(metric) is not None]
        low, mean, high = (min(values), float(np.mean(values)), max(values)) if values else (None, None, None)
        summary |= {metric: mean, f"{metric}_low": low, f"{metric}_high": high}
    return summary


def headlines(rows: Sequence[Row]) -> list[Row]:
    """The rows without the single seeds of random networks, whose summaries stay."""
    return [row for row in rows if row["kind"] != RANDOM or row["interval"] != BOOTSTRAP]


def metrics_table(rows: Sequence[Row]) -> str:
    """Markdown: a line a row of the report, an interval in brackets where there is one."""
    lines = [
        [row["name"], str(row["size"]), *(_number(row, name, digits) for name, digits in _SHOWN.items())]
        for row in rows
    ]
    return markdown(_HEADS, lines)


def differences_table(rows: Sequence[Row]) -> str:
    """Markdown: a line for each pair of backbones, by how much the first one's kNN and probe are ahead."""
    digits = {"knn_auc_ahead": 3, "knn_pauc_ahead": 4, "probe_auc_ahead": 3, "probe_pauc_ahead": 4}
    lines = [
        [row["name"], row["against"], *(_number(row, name, places) for name, places in digits.items())] for row in rows
    ]
    return markdown(["features", "against", "kNN AUC", "kNN pAUC", "probe AUC", "probe pAUC"], lines)


def few_shot_table(rows: Sequence[Row], metric: str) -> str:
    """Markdown: a line for each name in `rows`, a column a share, the mean of `metric` over draws and its interval.

    Of a random network the interval goes from the least end of its seeds to the largest.
    """
    shares = sorted({row["share"] for row in rows})
    lines = []
    for name in dict.fromkeys(row["name"] for row in rows):
        cells = []
        for share in shares:
            found = [row for row in rows if row["name"] == name and row["share"] == share]
            low, high = min(row[f"{metric}_low"] for row in found), max(row[f"{metric}_high"] for row in found)
            cells.append(f"{np.mean([row[metric] for row in found]):.3f} [{low:.3f}, {high:.3f}]")
        lines.append([name, *cells])
    return markdown(["features", *(f"{share:.0%} of groups" for share in shares)], lines)


def markdown(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table, its columns aligned so that it reads in a terminal too."""
    widths = [max(len(cell) for cell in column) for column in zip(heads, *lines, strict=True)]
    rows = [heads, ["-" * width for width in widths], *lines]
    padded = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in padded)


def _number(row: Row, name: str, digits: int) -> str:
    value, low, high = (row.get(f"{name}{end}") for end in ("", "_low", "_high"))
    if value is None:
        return ""
    if low is None or high is None:
        return f"{value:.{digits}f}"
    return f"{value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"
