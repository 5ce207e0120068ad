"""Sections of the page on what training would pick up: the clinic by its colour, folds that leak."""

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from ssl_isic.inspection.clinic_colour import ClinicColour, colours_by_clinic
from ssl_isic.inspection.counting import Share
from ssl_isic.inspection.inspected import Inspected
from ssl_isic.inspection.page.charts import swatch, whisker
from ssl_isic.inspection.page.parts import Cell, joined, note, percent, section, table, whole

MOST_CLINICS = 20
CHANNELS = ("L*", "a*", "b*")


def colour(seen: Inspected) -> Markup:
    """The mean colour of each clinic's images and its spread, and how well colour tells the clinic."""
    codes, names = seen.clinics
    fine = seen.readable
    found = colours_by_clinic(seen.records["colour"][fine], codes[fine], names)
    rows: list[list[Cell]] = []
    axes = [_axis(found, channel) for channel in range(3)]
    for clinic in found[:MOST_CLINICS]:
        cells = [_channel(clinic, channel, axes[channel]) for channel in range(3)]
        name = Markup("{}{}").format(swatch(clinic.mean), clinic.clinic)
        rows.append([name, whole(clinic.images), *(cell for pair in cells for cell in pair)])
    heads = ["clinic", "images", *(head for channel in CHANNELS for head in (channel, ""))]
    more = f" The {MOST_CLINICS} clinics with the most images are shown." if len(found) > MOST_CLINICS else ""
    return section(
        "colour",
        "Colour by clinic",
        note(
            "Mean colour of the images, CIE L*a*b*, ± its standard deviation over images. A source whose table names no "
            f"clinic counts as one.{more}"
        ),
        table(heads, rows),
        _told(seen),
    )


def _axis(found: Sequence[ClinicColour], channel: int) -> tuple[float, float]:
    low = min((clinic.mean[channel] - clinic.spread[channel] for clinic in found), default=0.0)
    high = max((clinic.mean[channel] + clinic.spread[channel] for clinic in found), default=1.0)
    return float(low), float(high)


def _channel(clinic: ClinicColour, channel: int, axis: tuple[float, float]) -> tuple[str, Markup]:
    mean, spread = float(clinic.mean[channel]), float(clinic.spread[channel])
    return f"{mean:.1f} ± {spread:.1f}", whisker(mean - spread, mean, mean + spread, axis)


def _told(seen: Inspected) -> Markup:
    told = seen.told
    if told is None:
        return note(
            "Whether colour tells the clinic is not known: fewer than two clinics have ten patients or lesions."
        )
    folds = f"{percent(min(told.by_fold))} to {percent(max(told.by_fold))} by fold"
    recall = [
        [name, percent(share)]
        for name, share in sorted(zip(told.clinics, told.recall, strict=True), key=lambda pair: -pair[1])
    ]
    text = Markup(
        "<p>Twelve colour numbers (mean and spread of L*a*b*, whole image and centre) name the clinic of <b>{}</b> of images "
        "({}); always naming the commonest is right for <b>{}</b>. Logistic regression, {} folds over {} groups (a "
        "patient, a lesion and alike images stay together), {} images of {} clinics.</p>"
    ).format(
        percent(told.accuracy),
        folds,
        percent(told.majority),
        len(told.by_fold),
        whole(told.groups),
        whole(told.images),
        len(told.clinics),
    )
    return joined([text, table(["clinic", "of its images named rightly"], recall)])


def folds(seen: Inspected) -> Markup:
    """What is in each fold."""
    if seen.folds is None:
        return section("folds", "Folds", note("No folds file was given: folds=FILE checks it for leaks."))
    parts = seen.folds.parts(seen.rows.target)
    high = max((part.share.high for part in parts if part.share.labelled), default=1.0)
    rows = [
        [
            str(part.number),
            whole(part.images),
            whole(part.groups),
            whole(part.share.labelled),
            whole(part.share.positives),
            percent(part.share.value, 2),
            _chart(part.share, high),
        ]
        for part in parts
    ]
    left_out = int(np.sum(seen.folds.fold < 0))
    text = f"{seen.folds.path}: {whole(len(seen.pool) - left_out)} images have a fold, {whole(left_out)} have none."
    heads = ["fold", "images", "groups", "labelled", "positives", "prevalence", "95 %"]
    return section("folds", "Folds", note(text), table(heads, rows))


def _chart(share: Share, high: float) -> Markup:
    return whisker(share.low, share.value, share.high, (0.0, high)) if share.labelled else Markup("")
