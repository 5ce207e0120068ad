"""Records of images against what they are known to be, and a scan that is cut short."""

import hashlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from ssl_isic.data.images import ImagePool
from ssl_isic.data.near_duplicates import small_copy
from ssl_isic.evaluation.colour import colour_numbers
from ssl_isic.inspection import scanning
from ssl_isic.inspection.scanning import State, describe, scan

Texture = Callable[[int], NDArray[np.uint8]]
Jpeg = Callable[..., bytes]


def png(pixels: NDArray[np.uint8], mode: str = "RGB") -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, "PNG")
    return file.getvalue()


def test_a_record_says_what_the_image_is(texture_of: Texture, jpeg_of: Jpeg) -> None:
    data = jpeg_of(texture_of(3))
    pixels = simplejpeg.decode_jpeg(data)
    record = describe(data)
    assert (record["state"], record["bytes"]) == (State.FINE, len(data))
    assert (record["height"], record["width"]) == pixels.shape[:2]
    assert record["file_sha256"].tobytes() == hashlib.sha256(data).digest()
    assert np.array_equal(record["copy"], small_copy(pixels))
    assert record["colour"] == pytest.approx(colour_numbers(pixels), rel=1e-6)


def test_the_same_pixels_in_other_bytes_have_one_digest(texture_of: Texture, jpeg_of: Jpeg) -> None:
    data = jpeg_of(texture_of(3))
    pixels = simplejpeg.decode_jpeg(data)
    other, turned = describe(png(pixels)), describe(png(pixels.transpose(1, 0, 2)))
    assert np.array_equal(other["pixels_sha256"], describe(data)["pixels_sha256"])
    assert not np.array_equal(other["file_sha256"], describe(data)["file_sha256"])
    assert not np.array_equal(turned["pixels_sha256"], other["pixels_sha256"])


def test_a_shape_is_part_of_the_pixels() -> None:
    plain = [describe(png(np.zeros(shape, np.uint8))) for shape in ((4, 6, 3), (6, 4, 3))]
    assert not np.array_equal(plain[0]["pixels_sha256"], plain[1]["pixels_sha256"])


@pytest.mark.parametrize(
    ("damage", "state"),
    [
        (lambda data: data, State.FINE),
        (lambda data: data + b"\0\0", State.FINE),
        (lambda data: data[: len(data) // 2], State.TRUNCATED),
        (lambda data: data[:30], State.TRUNCATED),
        (lambda data: b"", State.UNREADABLE),
        (lambda data: b"no image at all", State.UNREADABLE),
        (lambda data: data[:2] + b"\0" * (len(data) - 4) + data[-2:], State.UNREADABLE),
    ],
)
def test_damage_is_told_apart(
    damage: Callable[[bytes], bytes], state: State, texture_of: Texture, jpeg_of: Jpeg
) -> None:
    assert describe(damage(jpeg_of(texture_of(0))))["state"] == state


def test_a_cut_png_is_truncated_too(texture_of: Texture) -> None:
    data = png(texture_of(0))
    assert describe(data)["state"] == State.FINE
    assert describe(data[: len(data) // 2])["state"] == State.TRUNCATED


def test_a_jpeg_with_a_hole_in_its_data_is_suspect(texture_of: Texture, jpeg_of: Jpeg) -> None:
    """libjpeg fills the rest with grey and only warns, and Pillow says nothing."""
    data = bytearray(jpeg_of(texture_of(1)))
    middle = len(data) * 2 // 3
    data[middle : middle + 40] = b"\xff\xd0" * 20
    assert describe(bytes(data))["state"] == State.SUSPECT


def test_a_jpeg_of_four_inks_is_fine(texture_of: Texture) -> None:
    file = io.BytesIO()
    Image.fromarray(texture_of(0)).convert("CMYK").save(file, "JPEG")
    assert describe(file.getvalue())["state"] == State.FINE


def test_a_large_photograph_keeps_its_colour(texture_of: Texture) -> None:
    large = np.asarray(Image.fromarray(texture_of(2)).resize((1500, 1100)), np.uint8)
    assert describe(png(large))["colour"] == pytest.approx(colour_numbers(large), abs=0.6)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_scan_that_was_cut_reads_only_the_rest(
    workers: int, clean: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clean.write()
    pool = ImagePool({"here": tmp_path / "images.hdf5"})
    whole = scan(pool, tmp_path / "whole", workers, "fork")
    monkeypatch.setattr(scanning, "BLOCK", 8)
    read = list[int]()

    class Cut(ImagePool):
        def read(self, index: int) -> bytes:
            if index == 20:
                raise KeyboardInterrupt
            return super().read(index)

    class Counting(ImagePool):
        def read(self, index: int) -> bytes:
            read.append(index)
            return super().read(index)

    with pytest.raises(KeyboardInterrupt):
        scan(Cut({"here": tmp_path / "images.hdf5"}), tmp_path / "cut", 0, "fork")
    again = scan(Counting({"here": tmp_path / "images.hdf5"}), tmp_path / "cut", workers, "fork")
    assert np.array_equal(again.records, whole.records)
    assert np.array_equal(again.copies, whole.copies)
    assert read == ([] if workers else list(range(16, len(pool))))
    scan(Counting({"here": tmp_path / "images.hdf5"}), tmp_path / "cut", 0, "fork")
    assert read == ([] if workers else list(range(16, len(pool))))


def test_a_changed_file_is_read_anew(clean: Any, tmp_path: Path, jpeg_of: Jpeg, texture_of: Texture) -> None:
    clean.write()
    before = scan(ImagePool({"here": tmp_path / "images.hdf5"}), tmp_path / "scan", 0, "fork").records
    clean.images["ISIC_0000005"] = jpeg_of(texture_of(99))
    clean.write()
    after = scan(ImagePool({"here": tmp_path / "images.hdf5"}), tmp_path / "scan", 0, "fork").records
    assert np.flatnonzero(np.any(before["file_sha256"] != after["file_sha256"], axis=1)).tolist() == [5]


def test_a_file_of_a_folder_that_changes_is_read_anew(tmp_path: Path, jpeg_of: Jpeg, texture_of: Texture) -> None:
    folder = tmp_path / "images" / "deeper"
    folder.mkdir(parents=True)
    for number in range(3):
        (folder / f"{number}.jpg").write_bytes(jpeg_of(texture_of(number)))
    before = scan(ImagePool({"here": tmp_path / "images"}), tmp_path / "scan", 0, "fork").records
    (folder / "1.jpg").write_bytes(jpeg_of(texture_of(8)))
    after = scan(ImagePool({"here": tmp_path / "images"}), tmp_path / "scan", 0, "fork").records
    assert np.flatnonzero(np.any(before["file_sha256"] != after["file_sha256"], axis=1)).tolist() == [1]


def test_a_file_that_cannot_be_read_is_a_finding_and_no_end(tmp_path: Path, jpeg_of: Jpeg, texture_of: Texture) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(jpeg_of(texture_of(0)))
    (folder / "b.jpg").symlink_to(tmp_path / "nowhere.jpg")
    records = scan(ImagePool({"here": folder}), tmp_path / "scan", 0, "fork").records
    assert [State(state) for state in records["state"]] == [State.FINE, describe(b"")["state"]]
    with h5py.File(tmp_path / "images.hdf5", "w") as file:
        file["a"] = np.void(jpeg_of(texture_of(0)))
        file.create_group("b")
    records = scan(ImagePool({"here": tmp_path / "images.hdf5"}), tmp_path / "scan5", 0, "fork").records
    assert [State(state) for state in records["state"]] == [State.FINE, describe(b"")["state"]]


def test_shards_are_read_shard_by_shard_and_come_back_in_order(shards: Path, lesions: Path, tmp_path: Path) -> None:
    of_shards = scan(ImagePool({"here": shards}), tmp_path / "shards", 0, "fork")
    of_file = scan(ImagePool({"here": lesions}), tmp_path / "file", 0, "fork")
    assert np.array_equal(of_shards.records, of_file.records)
    assert np.array_equal(of_shards.copies, of_file.copies)
