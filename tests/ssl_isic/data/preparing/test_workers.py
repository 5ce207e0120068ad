"""Images come in order, from any of them on, whatever number of processes; what cannot be read is a fault."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from ssl_isic.data.preparing.settings import IdRule
from ssl_isic.data.preparing.source_images import SourceImages
from ssl_isic.data.preparing.treatment import Treatment
from ssl_isic.data.preparing.workers import treated_images


@pytest.mark.parametrize("workers", [0, 2])
def test_order_and_faults(tmp_path: Path, lesion_jpegs: Mapping[str, bytes], workers: int) -> None:
    for name, data in lesion_jpegs.items():
        (tmp_path / f"{name}.jpg").write_bytes(data)
    images = SourceImages([tmp_path], IdRule())
    (tmp_path / f"{list(lesion_jpegs)[20]}.jpg").unlink()
    found = list(treated_images(images, Treatment(), 3, workers))
    assert [image.data for image in found] == [
        None if k == 20 else data for k, data in enumerate(lesion_jpegs.values()) if k >= 3
    ]
    assert [(k, image.fault) for k, image in enumerate(found, start=3) if image.fault] == [
        (20, "No such file or directory")
    ]
