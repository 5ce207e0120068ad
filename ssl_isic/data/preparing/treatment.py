"""What happens to the bytes of one image on their way into the pool: nothing, unless it is asked for or needed."""

import io
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
import PIL.Image
import simplejpeg

from ssl_isic.data.cleaning import clean
from ssl_isic.data.cleaning.pixels import Image
from ssl_isic.data.decoding import ImageDecodeError, decode_rgb

KEPT = (b"\xff\xd8", b"\x89P")
"""How JPEG and PNG begin, which stay as they are."""


class Treated(NamedTuple):
    """One image for the pool, or why it is none."""

    data: bytes | None
    change: str = ""
    """What was done to it, "" for bytes as they were."""
    fault: str = ""


@dataclass(frozen=True)
class Treatment:
    """What is asked for: cleaning, then shrinking to a longer or a shorter side, in px.

    What changes is written as JPEG of a `quality`, 4:4:4, or, where that is None, as PNG. What does not keeps its bytes.
    """

    clean: tuple[str, ...] = ()
    longest_px: int | None = None
    shortest_px: int | None = None
    quality: int | None = 95

    def __call__(self, data: bytes) -> Treated:
        """Check that the image decodes, and change it where that is asked for."""
        try:
            kept, note = (data, "") if data.startswith(KEPT) else _as_png(data)
            pixels = decode_rgb(kept)
        except ImageDecodeError as error:
            return Treated(None, fault=str(error))
        cleaned = clean(pixels, self.clean)
        shrunk = self._shrunk(cleaned)
        changes = [
            *(["cleaned"] if not np.array_equal(cleaned, pixels) else []),
            *(["shrunk"] if shrunk is not cleaned else []),
        ]
        return Treated(self._encoded(shrunk), " and ".join(changes)) if changes else Treated(kept, note)

    def _shrunk(self, pixels: Image) -> Image:
        """The image with the side that is asked for, each pixel the mean of what it covers; itself where it is no larger."""
        height, width = pixels.shape[:2]
        side, limit = max(height, width), self.longest_px
        if self.shortest_px is not None:
            side, limit = min(height, width), self.shortest_px
        if limit is None or side <= limit:
            return pixels
        size = (max(1, round(width * limit / side)), max(1, round(height * limit / side)))
        return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)

    def _encoded(self, pixels: Image) -> bytes:
        if self.quality is not None:
            return bytes(simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), quality=self.quality))
        buffer = io.BytesIO()
        PIL.Image.fromarray(pixels).save(buffer, "PNG")
        return buffer.getvalue()


def _as_png(data: bytes) -> tuple[bytes, str]:
    """BMP, TIFF and the like as PNG with the same pixels, and what they were."""
    try:
        with PIL.Image.open(io.BytesIO(data)) as image:
            buffer = io.BytesIO()
            image.save(buffer, "PNG")
            return buffer.getvalue(), f"{image.format} to PNG"
    except (ValueError, OSError, SyntaxError, PIL.Image.DecompressionBombError) as error:
        raise ImageDecodeError(str(error) or type(error).__name__) from None
