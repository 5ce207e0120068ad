"""The parts in which a CPU takes images through a network."""

import pytest
import torch

from ssl_isic.evaluation.forward import CPU_PIXELS, parts_for


@pytest.mark.parametrize(("images", "side", "largest"), [(256, 64, 64), (7, 64, 7), (12, 224, 5), (2, 600, 1)])
def test_parts_hold_every_image_in_order_and_no_more_pixels_than_caches_take(
    images: int, side: int, largest: int
) -> None:
    pixels = torch.randint(0, 256, (images, side, side, 3), dtype=torch.uint8)

    parts = parts_for(pixels)

    assert torch.equal(torch.cat(list(parts)), pixels)
    assert max(len(part) for part in parts) == largest
    assert all(len(part) == 1 or part[..., 0].numel() <= CPU_PIXELS for part in parts)


def test_other_devices_take_a_batch_at_once() -> None:
    pixels = torch.empty(256, 224, 224, 3, dtype=torch.uint8, device="meta")

    assert [part.shape for part in parts_for(pixels)] == [pixels.shape]
