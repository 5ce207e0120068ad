"""Small charts as inline SVG, in the page's own colours, so that they follow its light and its dark scheme."""

from collections.abc import Sequence

import cv2
import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from ssl_isic.inspection.page.parts import joined, whole

WHISKER_PX = (120, 16)
HISTOGRAM_PX = (480, 150)
AXIS_PX = 22


def bar(share: float) -> Markup:
    """A horizontal bar that fills `share`, 0 to 1, of its cell."""
    return Markup('<span class="bar"><span style="width:{:.1f}%"></span></span>').format(100 * share)


def whisker(low: float, middle: float, high: float, axis: tuple[float, float]) -> Markup:
    """An interval and the value inside it, on an axis from `axis[0]` to `axis[1]`; nothing where the value is NaN."""
    if middle != middle:
        return Markup("")
    width, height = WHISKER_PX
    span = max(axis[1] - axis[0], 1e-12)
    left, centre, right = (4 + (width - 8) * (value - axis[0]) / span for value in (low, middle, high))
    return Markup(
        '<svg class="whisker" viewBox="0 0 {w} {h}" width="{w}" height="{h}" aria-hidden="true">'
        '<line class="rule" x1="0" x2="{w}" y1="{y}" y2="{y}"/><line class="span" x1="{l:.1f}" x2="{r:.1f}" y1="{y}" y2="{y}"/>'
        '<circle cx="{c:.1f}" cy="{y}" r="3.5"/></svg>'
    ).format(w=width, h=height, y=height / 2, l=left, c=centre, r=right)


def histogram(edges: Sequence[float], counts: Sequence[int], unit: str) -> Markup:
    """Counts between the edges, one bar each of the same width; the first, middle and last edge are written below."""
    width, height = HISTOGRAM_PX
    step, most = width / len(counts), max(*counts, 1)
    bars = joined(
        Markup(
            '<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"><title>{:.0f} to {:.0f} {}: {}</title></rect>'
        ).format(
            number * step + 0.5,
            (height - AXIS_PX) * (1 - count / most),
            max(step - 1, 1),
            (height - AXIS_PX) * count / most,
            edges[number],
            edges[number + 1],
            unit,
            whole(count),
        )
        for number, count in enumerate(counts)
    )
    marks = (("start", 0), ("middle", len(counts) // 2), ("end", len(counts)))
    labels = joined(
        Markup('<text x="{:.1f}" y="{}" text-anchor="{}">{:.0f} {}</text>').format(
            number * step, height - 5, anchor, edges[number], unit
        )
        for anchor, number in marks
        if anchor != "middle" or len(counts) > 2
    )
    return Markup('<svg class="histogram" viewBox="0 0 {} {}" role="img">{}{}</svg>').format(
        width, height, bars, labels
    )


def swatch(lab: NDArray[np.float64]) -> Markup:
    """A patch of the colour `lab`, CIE L*a*b* (3,)."""
    rgb = cv2.cvtColor(lab.astype(np.float32).reshape(1, 1, 3), cv2.COLOR_LAB2RGB).reshape(3)
    red, green, blue = (255 * rgb.clip(0, 1)).round().astype(int).tolist()
    return Markup('<span class="swatch" style="background:rgb({:d},{:d},{:d})"></span>').format(red, green, blue)
