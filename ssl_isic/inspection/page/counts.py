"""Sections of the page that count: sources, classes and the other columns, sizes, gaps."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from markupsafe import Markup

from ssl_isic.inspection.counting import Counts, Share, counts_of, share_of, sizes_of
from ssl_isic.inspection.inspected import Inspected
from ssl_isic.inspection.page.charts import bar, histogram, whisker
from ssl_isic.inspection.page.parts import Cell, grid, joined, note, part, percent, section, table, whole
from ssl_isic.inspection.page.pictures import pictures
from ssl_isic.inspection.scanning import Records

MOST_VALUES = 15
KB, MB = 1000, 1_000_000
LOOKED_AT = 6
TITLES = {
    "diagnosis": "Diagnosis",
    "clinic": "Clinic",
    "sex": "Sex",
    "age": "Age, years",
    "site": "Site on the body",
}


def sources(seen: Inspected) -> Markup:
    """Each source: its file, its images and rows, and a look at some of them."""
    rows = []
    for number, name in enumerate(seen.pool.names):
        own = seen.source == number
        table_of = seen.rows.tables.get(name)
        rows.append(
            [
                name,
                Path(seen.pool.stores[number].path).name,
                whole(int(own.sum())),
                whole(int(np.sum(own & ~seen.readable))),
                whole(table_of.rows) if table_of else "–",
                whole(len(table_of.without_image)) if table_of else "–",
                whole(int(np.sum(own & ~seen.rows.has_row))) if table_of else "–",
            ]
        )
    heads = ["source", "file", "images", "do not decode", "rows", "rows without image", "images without row"]
    return section("sources", "Sources", table(heads, rows, texts=2), *_looks(seen))


def _looks(seen: Inspected) -> Iterator[Markup]:
    rng = np.random.default_rng(0)
    for number, name in enumerate(seen.pool.names):
        own = (seen.source == number) & seen.readable
        for label, what in ((1, "positives"), (0, "negatives"), (-1, "images without a label")):
            rows = np.flatnonzero(own & (seen.rows.target == label))
            if rows.size:
                chosen = np.sort(rng.permutation(rows)[:LOOKED_AT]).tolist()
                yield part(f"{name}: {what}, {len(chosen)} of {whole(rows.size)} at random", pictures(seen, chosen))


def classes(seen: Inspected) -> Markup:
    """Prevalence by source, and the values of each column with theirs."""
    every = np.ones(len(seen.pool), bool)
    parts = [(name, seen.source == number) for number, name in enumerate(seen.pool.names)]
    if len(parts) > 1:
        parts.append(("all", every))
    shares = [(name, share_of(seen.rows.target, rows)) for name, rows in parts]
    heads = ["source", "labelled", "positives", "prevalence", "95 % interval (Wilson)", ""]
    prevalence = table(heads, [[name, *_share_cells(share, _axis([s for _, s in shares]))] for name, share in shares])
    columns = [counts_of(role, seen.rows.columns[role], seen.rows.target, every) for role in TITLES]
    return section(
        "classes",
        "Classes and who they come from",
        prevalence if any(share.labelled for _, share in shares) else note("No table has labels."),
        grid(_column(counts) for counts in columns if counts.values),
        _not_found(columns),
    )


def _share_cells(share: Share, axis: tuple[float, float]) -> list[Cell]:
    interval = f"{percent(share.low, 2)} to {percent(share.high, 2)}" if share.labelled else ""
    chart = whisker(share.low, share.value, share.high, axis)
    return [whole(share.labelled), whole(share.positives), percent(share.value, 2), interval, chart]


def _axis(shares: list[Share]) -> tuple[float, float]:
    return 0.0, max((share.high for share in shares if share.labelled), default=1.0)


def _column(counts: Counts) -> Markup:
    shown, rest = counts.values[:MOST_VALUES], counts.values[MOST_VALUES:]
    total = sum(count.images for count in counts.values) + counts.missing
    most = max(count.images for count in shown)
    labelled = any(count.share.labelled for count in shown)
    heads = ["", "images", *(("positive, %", "95 % interval") if labelled else ()), ""]
    rows = [
        [one.value, whole(one.images), *(_positive(one.share) if labelled else ()), bar(one.images / most)]
        for one in shown
    ]
    blank = [""] * (len(heads) - 3)
    if rest:
        rows.append([f"{len(rest)} more values", whole(sum(count.images for count in rest)), *blank, ""])
    if counts.missing:
        rows.append(["not said", whole(counts.missing), *blank, bar(min(1, counts.missing / most))])
    found = ", ".join(sorted(set(counts.found.values())))
    about = note(f"column {found}; {percent(1 - counts.missing / total)} of images have it")
    return part(TITLES[counts.role], table(heads, rows), about)


def _positive(share: Share) -> tuple[str, str]:
    if not share.labelled:
        return "", ""
    return f"{100 * share.value:.2f}", f"{100 * share.low:.2f} – {100 * share.high:.2f}"


def _not_found(columns: list[Counts]) -> Markup:
    absent = [TITLES[counts.role].lower() for counts in columns if not counts.found]
    if not absent:
        return Markup("")
    return note(f"No table has a column for: {', '.join(absent)}. Name it by columns.NAME=COLUMN if one does.")


def sizes(seen: Inspected) -> Markup:
    """Image sizes of each source."""
    parts = [part(name, *_sizes(seen.records[seen.source == number])) for number, name in enumerate(seen.pool.names)]
    return section("sizes", "Image sizes", note("Charts: images by their longer side."), grid(parts))


def _sizes(records: Records) -> list[Markup]:
    found = sizes_of(records)
    if found is None:
        return [note("No image decodes.")]
    smallest, largest = (f"{width} × {height}" for width, height in (found.smallest, found.largest))
    span = f"{whole(found.distinct)} sizes, {smallest} to {largest} px" if found.distinct > 1 else f"All {smallest} px"
    text = (
        f"{span}; longer side {found.median_side:g} px in the median; {found.total_bytes / MB:.1f} MB, "
        f"{found.total_bytes / len(records) / KB:.1f} kB an image."
    )
    chart = histogram(found.side_edges, found.side_counts, "px") if len(found.side_counts) > 1 else Markup("")
    rows = [[f"{width} × {height}", whole(count), bar(count / found.images)] for width, height, count in found.common]
    return [note(text), chart, table(["size, px", "images", ""], rows)]


def missing(seen: Inspected) -> Markup:
    """Gaps of each table by column."""
    if not seen.rows.tables:
        return Markup("")
    parts = []
    for name, found in seen.rows.tables.items():
        gaps = sorted(((count, column) for column, count in found.missing.items() if count), reverse=True)
        rows = [
            [column, whole(count), bar(count / found.rows), percent(count / found.rows), _tells(found.tell.get(column))]
            for count, column in gaps
        ]
        full = len(found.missing) - len(gaps)
        text = f"{full} of {len(found.missing)} columns have a value in each of the {whole(found.rows)} rows."
        heads = ["column", "missing", "", "of rows", "gap tells target"]
        parts.append(part(name, note(text), table(heads, rows) if rows else Markup("")))
    about = note("“Gap tells target”: the AUC of a column's being empty as a score for the target; 0.50 says nothing.")
    return section("missing", "Missing values", about, joined(parts))


def _tells(auc: float | None) -> str:
    return "" if auc is None else f"{auc:.2f}"
