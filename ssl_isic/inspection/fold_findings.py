"""What would leak or fail in cross-validation on a folds file."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ssl_isic.inspection.finding import Finding
from ssl_isic.inspection.fold_reading import FoldsFile
from ssl_isic.inspection.inspected import FILE, FOLD, KINDS, NEAR, PIXELS, Inspected, listed

SECTION = "folds"


def fold_findings(seen: Inspected, folds: FoldsFile) -> Iterator[Finding]:
    """Leaks across `folds`, folds that cannot be scored, and rows that it has too many or too few."""
    yield from _groups_across(seen, folds)
    yield from _duplicates_across(seen, folds)
    yield from _unscorable(seen, folds)
    if folds.without_image:
        text = f"{len(folds.without_image)} rows of {folds.path} have no image in any source: {listed(folds.without_image)}"
        yield Finding("folds-without-image", text, SECTION)
    left_out = np.flatnonzero((seen.rows.target >= 0) & (folds.fold < 0))
    if left_out.size:
        text = f"{left_out.size} labelled images have no fold in {folds.path}: {seen.names(left_out)}"
        yield Finding("rows-without-fold", text, SECTION)


def _groups_across(seen: Inspected, folds: FoldsFile) -> Iterator[Finding]:
    split = _in_two_folds(folds.group, folds.fold)
    if split.size:
        names = listed([folds.names[code] for code in split.tolist()])
        yield Finding("group-across-folds", f"{split.size} groups of {folds.path} are in two folds: {names}", SECTION)
    for role, what in (("patient", "patients"), ("lesion", "lesions")):
        column = seen.rows.columns[role]
        for number, source in enumerate(seen.pool.names):  # the same name in two sources need not be the same person
            split = _in_two_folds(column.codes, np.where(seen.source == number, folds.fold, -1))
            if split.size:
                names = listed([column.values[code] for code in split.tolist()])
                yield Finding(
                    "group-across-folds", f"{split.size} {what} of {source} are in two folds: {names}", SECTION
                )


def _in_two_folds(codes: NDArray[np.int32], fold: NDArray[np.int32]) -> NDArray[np.intp]:
    """The codes, 0 or more, that are in two folds or more."""
    rows = (codes >= 0) & (fold >= 0)
    first = np.full(int(codes.max(initial=-1)) + 1, np.iinfo(np.int32).max, np.int32)
    last = np.full_like(first, -1)
    np.minimum.at(first, codes[rows], fold[rows])
    np.maximum.at(last, codes[rows], fold[rows])
    return np.flatnonzero(last > first)


def _duplicates_across(seen: Inspected, folds: FoldsFile) -> Iterator[Finding]:
    for name, kind in (
        ("duplicate-across-folds", FILE),
        ("duplicate-across-folds", PIXELS),
        ("near-duplicate-across-folds", NEAR),
    ):
        across = seen.sets[kind].only(seen.sets[kind].differ(folds.fold))
        if len(across):
            text = f"{len(across)} sets of images ({KINDS[kind]}) are in two folds: {seen.sets_named(across, FOLD)}"
            yield Finding(name, text, SECTION)


def _unscorable(seen: Inspected, folds: FoldsFile) -> Iterator[Finding]:
    parts = folds.parts(seen.rows.target)
    if len(parts) == 1:
        yield Finding("fold-of-one-class", f"all rows of {folds.path} are in fold {parts[0].number}", SECTION)
    labelled = bool(np.any(seen.rows.target[folds.fold >= 0] >= 0))
    for part in parts if labelled else []:
        negatives = part.share.labelled - part.share.positives
        for class_name, images in (("positives", part.share.positives), ("negatives", negatives)):
            if not images:
                yield Finding("fold-of-one-class", f"fold {part.number} of {folds.path} has no {class_name}", SECTION)
