"""What a pool's figures mean for a result: each finding in one line."""

from collections.abc import Callable, Iterator
from itertools import combinations

import numpy as np

from ssl_isic.inspection.finding import Finding
from ssl_isic.inspection.fold_findings import fold_findings
from ssl_isic.inspection.inspected import EMBEDDED, FILE, KINDS, NEAR, PIXELS, SAME_ID, Inspected, listed, printable
from ssl_isic.inspection.scanning import State
from ssl_isic.inspection.sets import ImageSets, shared_between

TELLING_AUC = 0.75


def findings_of(inspected: Inspected, max_unreadable: float) -> list[Finding]:
    """All findings, those that would make a result wrong first. `max_unreadable` is a share of a source's images."""
    checks: list[Callable[[Inspected], Iterator[Finding]]] = [
        lambda seen: _images(seen, max_unreadable),
        _tables,
        _labels,
        lambda seen: iter(()) if seen.folds is None else fold_findings(seen, seen.folds),
        _copies,
        _overlaps,
        _lesions,
        _colours,
    ]
    found = [finding for check in checks for finding in check(inspected)]
    return sorted(found, key=lambda finding: not finding.wrong)


def _images(seen: Inspected, max_unreadable: float) -> Iterator[Finding]:
    state = seen.records["state"]
    for number, source in enumerate(seen.pool.names):
        own = seen.source == number
        bad = np.flatnonzero(own & ~seen.readable)
        if bad.size:
            share = bad.size / own.sum()
            cut = int(np.sum(state[bad] == State.TRUNCATED))
            name = "unreadable" if share > max_unreadable else "some-unreadable"
            text = (
                f"{bad.size} of {own.sum()} images of {source} do not decode ({share:.2%}), {cut} of them truncated: "
            )
            yield Finding(name, text + seen.names(bad), "unreadable")
        suspect = np.flatnonzero(own & (state == State.SUSPECT))
        if suspect.size:
            text = f"{suspect.size} images of {source} decode only against the decoder's warnings: "
            yield Finding("suspect", text + seen.names(suspect), "unreadable")


def _tables(seen: Inspected) -> Iterator[Finding]:
    for source, table in seen.rows.tables.items():
        start, ids = seen.pool.slice_of(source)
        if table.without_image:
            rows = f"{len(table.without_image)} of {table.rows} rows of {table.path}"
            text = f"{rows} have no image in {source}: {listed(table.without_image)}"
            yield Finding("rows-without-image", text, "sources")
        if table.no_labels:
            text = f"{table.no_labels} targets in {table.path} are neither 0, 1 nor empty: "
            yield Finding("not-a-label", text + printable(table.first_no_label), "classes")
        bare = start + np.flatnonzero(~seen.rows.has_row[start : start + len(ids)])
        if bare.size:
            text = f"{bare.size} of {len(ids)} images of {source} have no row in {table.path}: {seen.names(bare)}"
            yield Finding("images-without-row", text, "sources")
        for column, auc in table.tell.items():
            if auc >= TELLING_AUC:
                text = f"whether {printable(column)} is empty tells the target in {table.path} with an AUC of {auc:.2f}"
                yield Finding("gaps-tell", text, "missing")


def _labels(seen: Inspected) -> Iterator[Finding]:
    known = np.unique(seen.rows.target[seen.rows.target >= 0])
    if known.size == 1:
        yield Finding("one-class", f"every label is {known[0]}; there is nothing to tell apart", "classes")
    checked = {"the same pixels": seen.same_pixels}
    if SAME_ID in seen.sets:
        checked["the same id"] = seen.sets[SAME_ID]
    for what, sets in checked.items():
        differ = {
            "target": sets.differ(seen.rows.target),
            # within a source only: two tables may call one diagnosis by two names
            "diagnosis": sets.differ(seen.rows.columns["diagnosis"].codes) & ~sets.differ(seen.source),
        }
        for role, chosen in differ.items():
            if chosen.any():
                first = seen.sets_named(sets.only(chosen), role)
                text = f"{chosen.sum()} sets of images with {what} differ in their {role}: {first}"
                yield Finding("labels-contradict", text, "contradictions")


def _copies(seen: Inspected) -> Iterator[Finding]:
    names = {FILE: "duplicates", PIXELS: "duplicates", NEAR: "near-duplicates", EMBEDDED: "near-duplicates"}
    for kind, sets in seen.sets.items():
        if kind in names and len(sets):
            text = f"{len(sets.members)} images in {len(sets)} sets are {KINDS[kind]}: {seen.sets_named(sets)}"
            yield Finding(names[kind], text, kind)
            yield from _grouped_apart(seen, kind, sets)
        if kind in (NEAR, EMBEDDED):
            differ = sets.only(sets.differ(seen.rows.target))
            if len(differ):
                first = seen.sets_named(differ, "target")
                text = f"{len(differ)} sets of {KINDS[kind]} have different targets: {first}"
                yield Finding("near-labels-differ", text, "contradictions")


def _grouped_apart(seen: Inspected, kind: str, sets: ImageSets) -> Iterator[Finding]:
    apart = sets.only(seen.parted(sets))
    if len(apart):
        role = "patient" if apart.differ(seen.rows.columns["patient"].codes).all() else "lesion"
        text = (
            f"{len(apart)} sets of images ({KINDS[kind]}) have two patients or lesions: {seen.sets_named(apart, role)}"
        )
        yield Finding("alike-apart", text, kind)


def _overlaps(seen: Inspected) -> Iterator[Finding]:
    shared = {kind: shared_between(sets, seen.source, len(seen.pool.names)) for kind, sets in seen.sets.items()}
    for (one, here), (other, there) in combinations(enumerate(seen.pool.names), 2):
        found = [kind for kind, images in shared.items() if images[one, other]]
        for kind in found:
            mine, its = shared[kind][one, other], shared[kind][other, one]
            yield Finding("overlap", f"{mine} images of {here} and {its} of {there} are {KINDS[kind]}", "overlap")
        if not found:
            looked = "; ".join(KINDS[kind] for kind in shared)
            yield Finding("no-overlap", f"{here} and {there} share no image ({looked})", "overlap")


def _lesions(seen: Inspected) -> Iterator[Finding]:
    lesions, column = seen.lesions, seen.rows.columns["lesion"]
    if not len(lesions):
        return
    text = f"{len(lesions)} lesions have two photographs or more, {len(lesions.members)} images together; keep each in one fold"
    yield Finding("photographs", text, "lesions")
    for name, codes, what in (
        ("lesion-labels-differ", seen.rows.target, "photographs of different targets"),
        ("lesion-of-two-patients", seen.rows.columns["patient"].codes, "photographs of two patients"),
    ):
        differ = lesions.only(lesions.differ(codes))
        if len(differ):
            names = listed([column.values[code] for code in column.codes[differ.members[differ.starts[:-1]]].tolist()])
            yield Finding(name, f"{len(differ)} lesions have {what}: {names}", "lesions")


def _colours(seen: Inspected) -> Iterator[Finding]:
    told = seen.told
    if told is not None and told.accuracy > told.majority and min(told.by_fold) > told.majority:
        text = (
            f"twelve colour numbers name the clinic of {told.accuracy:.1%} of images, "
            f"where always naming the commonest of {len(told.clinics)} is right for {told.majority:.1%}"
        )
        yield Finding("colour-tells-clinic", text, "colour")
