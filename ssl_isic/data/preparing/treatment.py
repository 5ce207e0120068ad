"""What happens to the bytes of one image on their way into the pool: nothing, unless it is asked for or needed."""

import io
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from ssl_isic.data.images import ImageDecodeError, decode_rgb

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
    """What is asked for: shrinking to a longer or a shorter side, in px, and the JPEG quality (None: PNG) of what changes."""

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
        shrunk = self._shrunk(pixels)
        if shrunk is None:
            return Treated(kept, note)
        return Treated(self._encoded(shrunk), "shrunk")

    def _shrunk(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
        """The image with the side that is asked for, by the mean of what each pixel covers; None where it is no larger."""
        height, width = pixels.shape[:2]
        side, limit = max(height, width), self.longest_px
        if self.shortest_px is not None:
            side, limit = min(height, width), self.shortest_px
        if limit is None or side <= limit:
            return None
        size = (max(1, round(width * limit / side)), max(1, round(height * limit / side)))
        return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)

    def _encoded(self, pixels: NDArray[np.uint8]) -> bytes:
        if self.quality is not None:
            return bytes(simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), quality=self.quality))
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        return buffer.getvalue()


def _as_png(data: bytes) -> tuple[bytes, str]:
    """BMP, TIFF and the like as PNG with the same pixels, and what they were."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            buffer = io.BytesIO()
            image.save(buffer, "PNG")
            return buffer.getvalue(), f"{image.format} to PNG"
    except (ValueError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ImageDecodeError(str(error) or type(error).__name__) from None
