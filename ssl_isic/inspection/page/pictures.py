"""Pictures of the user's own images on the page, shrunk and written into it."""

import base64
from collections.abc import Sequence

import cv2
import numpy as np
import simplejpeg
from markupsafe import Markup
from numpy.typing import NDArray

from ssl_isic.data.decoding import ImageDecodeError, decode_rgb
from ssl_isic.inspection.annotations import TARGET
from ssl_isic.inspection.inspected import FOLD, Inspected, printable
from ssl_isic.inspection.page.parts import joined, note, part, whole
from ssl_isic.inspection.scanning import bytes_of
from ssl_isic.inspection.sets import ImageSets

SIDE_PX = 160
QUALITY = 82
IN_A_SET = 8
CAPTION = ("lesion", "patient", FOLD)


def picture(seen: Inspected, index: int) -> Markup:
    """An image with its name, size and labels below; an empty frame for one that does not decode."""
    record = seen.records[index]
    facts = [seen.pool.source_of(index)] if len(seen.pool.names) > 1 else []
    facts.append(f"{record['width']} × {record['height']} px" if record["width"] else "does not decode")
    label, diagnosis = seen.says(TARGET, index), seen.says("diagnosis", index)
    facts.append(", ".join(text for text in (f"target {label}" if label else "", diagnosis) if text))
    said = {seen.says(role, index): role for role in reversed(CAPTION)}  # HAM10000's lesions are its patients too
    facts += [f"{role} {value}" for value, role in reversed(said.items()) if value]
    lines = joined(Markup("<br>{}").format(fact) for fact in facts if fact)
    name = printable(seen.pool.id_of(index))
    return Markup('<figure><img src="{}" alt="{}"><figcaption><b>{}</b>{}</figcaption></figure>').format(
        _as_uri(seen, index), name, name, lines
    )


def pictures(seen: Inspected, rows: Sequence[int]) -> Markup:
    """Images beside each other."""
    return Markup('<div class="pictures">{}</div>').format(joined(picture(seen, index) for index in rows))


def picture_sets(seen: Inspected, title: str, sets: ImageSets, most: int, anchor: str = "") -> Markup:
    """A part of a section with up to `most` sets, each with its pictures side by side: first those that matter most."""
    if not len(sets):
        return Markup("")
    tags = _tags(seen, sets)
    rank = sum(flags * 2.0**-place for place, (_, _, flags) in enumerate(tags))
    order = np.argsort(-np.asarray(rank), kind="stable")[:most].tolist()
    shown = joined(_picture_set(seen, sets[number], [tag for tag in tags if tag[2][number]]) for number in order)
    count = f"{whole(len(sets))} sets, {whole(len(sets.members))} images, the largest of {whole(int(sets.sizes.max()))}"
    rest = f"; {whole(most)} of them are shown, duplicates.csv has all" if len(sets) > most else ""
    return part(title, note(f"{count}{rest}."), Markup('<div class="sets">{}</div>').format(shown), anchor=anchor)


def _tags(seen: Inspected, sets: ImageSets) -> list[tuple[str, str, NDArray[np.bool_]]]:
    """What to say of a set, the gravest first: text, class of the page's style, and of which sets (S,) it holds."""
    fold = seen.folds.fold if seen.folds is not None else np.full(len(seen.pool), -1)
    return [
        ("different targets", "wrong", sets.differ(seen.rows.target)),
        ("in two folds", "wrong", sets.differ(fold)),
        ("two patients or lesions", "noted", seen.parted(sets)),
        ("in two sources", "noted", sets.differ(seen.source)),
    ]


def _picture_set(seen: Inspected, own: NDArray[np.int64], tags: Sequence[tuple[str, str, NDArray[np.bool_]]]) -> Markup:
    marks = joined(Markup('<span class="tag {}">{}</span>').format(kind, text) for text, kind, _ in tags)
    more = f", {len(own) - IN_A_SET} of them not shown" if len(own) > IN_A_SET else ""
    count = f"{len(own)} images{more} " if len(own) > 2 or tags else ""
    head = Markup("<p>{}{}</p>").format(count, marks) if count else Markup("")
    return Markup('<div class="set">{}{}</div>').format(head, pictures(seen, own[:IN_A_SET].tolist()))


def _as_uri(seen: Inspected, index: int) -> str:
    try:
        pixels = decode_rgb(bytes_of(seen.pool, index))
    except ImageDecodeError:
        pixels = np.full((SIDE_PX, SIDE_PX, 3), 128, np.uint8)
    scale = SIDE_PX / max(pixels.shape[:2])
    if scale < 1:
        width, height = (max(1, round(side * scale)) for side in pixels.shape[1::-1])
        pixels = np.asarray(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
    data = simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), quality=QUALITY, colorspace="RGB")
    return f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"
