"""Sections of the page that show images: what does not decode, copies, overlaps, contradictions, lesions."""

from collections.abc import Mapping

import numpy as np
from markupsafe import Markup

from ssl_isic.data.decoding import ImageDecodeError, decode_rgb
from ssl_isic.inspection.inspected import EMBEDDED, FILE, KINDS, NEAR, PIXELS, SAME_ID, Inspected, printable
from ssl_isic.inspection.page.charts import bar
from ssl_isic.inspection.page.parts import joined, note, part, section, table, whole
from ssl_isic.inspection.page.pictures import picture_sets
from ssl_isic.inspection.scanning import State, bytes_of
from ssl_isic.inspection.sets import ImageSets, shared_between

MOST_LISTED = 50
STATES = {
    State.SUSPECT: "decodes against warnings",
    State.TRUNCATED: "truncated",
    State.UNREADABLE: "unreadable",
}


def unreadable(seen: Inspected) -> Markup:
    """The images that do not decode, or only against warnings, and why."""
    state = seen.records["state"]
    rows = np.flatnonzero(state != State.FINE)
    rows = rows[np.argsort(-state[rows].astype(int), kind="stable")]
    if not rows.size:
        return section("unreadable", "Unreadable images", note("Every image decodes."))
    lines = [
        [
            seen.name(index),
            STATES[State(int(state[index]))],
            whole(int(seen.records["bytes"][index])),
            _reason(seen, index),
        ]
        for index in rows[:MOST_LISTED].tolist()
    ]
    counts = ", ".join(f"{whole(int(np.sum(state == kind)))} {text}" for kind, text in STATES.items())
    more = f"; the first {MOST_LISTED} are listed" if rows.size > MOST_LISTED else ""
    return section(
        "unreadable",
        "Unreadable images",
        note(f"{counts}{more}."),
        table(["image", "what", "bytes", "why"], lines, texts=2),
    )


def _reason(seen: Inspected, index: int) -> str:
    data = bytes_of(seen.pool, index)
    if not data:
        return "there are no bytes, or they cannot be read"
    try:
        decode_rgb(data)
    except ImageDecodeError as error:
        return printable(str(error))
    return ""


def duplicates(seen: Inspected, most: int) -> Markup:
    """Copies within and across sources, with their pictures."""
    about = {
        FILE: "The same bytes",
        PIXELS: "The same pixels in other bytes",
        NEAR: "Near-duplicates by perceptual hash",
        EMBEDDED: "Near-duplicates by the backbone",
    }
    parts = []
    for kind, title in about.items():
        sets = seen.sets.get(kind)
        if sets is None:
            parts.append(part(title, note("Not looked for: no backbone was given.")))
        elif len(sets):
            parts.append(picture_sets(seen, title, sets, most, anchor=kind))
        else:
            parts.append(part(title, note("None.")))
    text = note(
        "Images joined by likeness, directly or through others, form a set. A near-duplicate may be another photograph of "
        "the same lesion, or a lesion that looks like it: look before anything is removed."
    )
    return section("duplicates", "Duplicates", text, joined(parts))


def overlap(seen: Inspected) -> Markup:
    """How many images each two sources share, by each measure."""
    names = seen.pool.names
    if len(names) < 2:
        return Markup("")
    shared = {kind: shared_between(sets, seen.source, len(names)) for kind, sets in seen.sets.items()}
    rows = [
        [f"{names[one]} in {names[other]}", *(whole(int(counts[one, other])) for counts in shared.values())]
        for one in range(len(names))
        for other in range(len(names))
        if one != other
    ]
    across = [(KINDS[kind], sets.only(sets.differ(seen.source))) for kind, sets in seen.sets.items() if kind != SAME_ID]
    shown = joined(picture_sets(seen, f"In two sources: {title}", sets, 8) for title, sets in across)
    return section(
        "overlap",
        "What the sources share",
        note("Images of the first source that have a mate in the second."),
        table(["images of", *(KINDS[kind] for kind in shared)], rows),
        shown,
    )


def contradictions(seen: Inspected, most: int) -> Markup:
    """Sets of alike images whose labels differ."""
    same_pixels = seen.same_pixels
    diagnosis = same_pixels.differ(seen.rows.columns["diagnosis"].codes) & ~same_pixels.differ(seen.source)
    checked: Mapping[str, ImageSets] = {
        "Same pixels, different labels": same_pixels.only(same_pixels.differ(seen.rows.target) | diagnosis),
        **{
            f"{title}, different targets": seen.sets[kind].only(seen.sets[kind].differ(seen.rows.target))
            for kind, title in ((SAME_ID, "Same id"), (NEAR, "Near-duplicates"), (EMBEDDED, "Alike to the backbone"))
            if kind in seen.sets
        },
    }
    shown = [picture_sets(seen, title, sets, most) for title, sets in checked.items() if len(sets)]
    return section(
        "contradictions", "Labels that contradict each other", *(shown or [note("None among alike images.")])
    )


def lesions(seen: Inspected, most: int) -> Markup:
    """Lesions with several photographs."""
    column, sets = seen.rows.columns["lesion"], seen.lesions
    if not column.found:
        return section(
            "lesions", "Repeated photographs of a lesion", note("No table says which lesion an image shows.")
        )
    known = int(np.sum(column.codes >= 0))
    singles = known - len(sets.members)
    sizes, counts = np.unique(sets.sizes, return_counts=True)
    lesions_of = {1: singles, **dict(zip(sizes.tolist(), counts.tolist(), strict=True))}
    most_lesions = max(1, *lesions_of.values())
    largest = sets.by(-sets.sizes)
    return section(
        "lesions",
        "Repeated photographs of a lesion",
        note(
            f"{whole(known)} images say their lesion (column {', '.join(sorted(set(column.found.values())))}): "
            f"{whole(singles + len(sets))} lesions, {whole(len(sets))} of them with two photographs or more, "
            f"{whole(len(sets.members))} images together. A split by image would put one lesion on both sides."
        ),
        table(
            ["photographs", "lesions", ""],
            [[str(size), whole(count), bar(count / most_lesions)] for size, count in lesions_of.items()],
        ),
        picture_sets(seen, "Lesions with the most photographs", largest, min(most, 6)),
    )
