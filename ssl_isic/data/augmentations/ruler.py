"""A dermoscope's ruler along an edge of the image."""

import numpy as np

from ssl_isic.data.augmentations.colour import Floats, Image
from ssl_isic.data.augmentations.overlay import Drawing, painted

SPACING = (0.03, 0.075)
"""Between two ticks, as a share of the image's side."""
INK, LIGHT_INK = (22, 22, 26), (225, 228, 230)
DARK = 70
"""Where the mean level of the image is below this the ruler is white."""


def add_ruler(image: Image, rng: np.random.Generator) -> Image:
    """The image with millimetre ticks along one of its edges, every fifth longer, every tenth longest and, mostly, numbered.

    They stand a little askew, at a spacing of 0.03 to 0.075 of the side; dark, or white on a dark image.

    Source: as dermoscopes print them; a network may take them for a sign of malignancy (Narla et al. 2018).
    """
    height, width, _ = image.shape
    side = min(height, width)
    turn = int(rng.integers(4))
    across = width if turn % 2 == 0 else height
    spacing = rng.uniform(*SPACING) * side
    long_px = rng.uniform(0.6, 1.1) * spacing + 0.015 * side
    line_px = rng.uniform(0.005, 0.011) * side
    cover, numbered = rng.uniform(0.6, 0.95), rng.random() < 0.6
    to_image = _Placed(turn, height, width, tilt_rad=rng.normal(0, 0.03), inset_px=rng.uniform(-0.3, 1.0) * long_px)
    drawing = Drawing(height, width)
    first, start = int(rng.integers(10)), rng.uniform(-0.5, 0.5) * spacing
    for count in range(int(across / spacing) + 2):
        number, x = first + count, start + count * spacing
        reach = long_px * (1.7 if number % 10 == 0 else 1.35 if number % 5 == 0 else 1.0)
        drawing.line(to_image(np.array([[x, 0.0], [x, reach]])), line_px, cover)
        if numbered and number % 10 == 0:
            digit_px = max(4.0, 0.9 * spacing)
            (left, bottom), *_ = to_image(np.array([[x, reach + 0.9 * digit_px]]))
            drawing.text(str(number // 10), left - 0.35 * digit_px, bottom + 0.5 * digit_px, digit_px, cover)
    return painted(image, drawing.cover(), LIGHT_INK if image[::4, ::4].mean() < DARK else INK)


class _Placed:
    """From a ruler's own x (along the edge) and y (into the image), px, to the image's."""

    def __init__(self, turn: int, height: int, width: int, tilt_rad: float, inset_px: float) -> None:
        self._turn, self._height, self._width = turn, height, width
        self._cos, self._sin, self._inset_px = np.cos(tilt_rad), np.sin(tilt_rad), inset_px

    def __call__(self, points: Floats) -> Floats:
        x = self._cos * points[:, 0] - self._sin * points[:, 1]
        y = self._sin * points[:, 0] + self._cos * points[:, 1] + self._inset_px
        turned = [(x, y), (self._width - y, x), (x, self._height - y), (y, x)][self._turn]
        return np.stack(turned, axis=1)
