"""Folders, zips, arrays and stores give the same bytes, and say what is wrong with them."""

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from ssl_isic.data.decoding import ImageDecodeError
from ssl_isic.data.preparing.settings import IdRule
from ssl_isic.data.preparing.source_files import open_files
from ssl_isic.data.preparing.source_images import SourceImages
from ssl_isic.errors import InputError

Jpegs = Mapping[str, bytes]


@pytest.fixture
def packed(tmp_path: Path, lesion_jpegs: Jpegs) -> Path:
    """Five JPEGs in a zip, two of them stored, in folders, with macOS's litter."""
    path = tmp_path / "images.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("__MACOSX/x/._a.jpg", b"litter")
        archive.writestr("x/readme.txt", b"text")
        for k, (name, data) in enumerate(list(lesion_jpegs.items())[:5]):
            kind = zipfile.ZIP_STORED if k < 2 else zipfile.ZIP_DEFLATED
            archive.writestr(f"x/{k}/{name}.JPG", data, compress_type=kind)
    return path


def test_every_kind_gives_the_same_bytes(
    tmp_path: Path, packed: Path, lesions: Path, shards: Path, lesion_jpegs: Jpegs
) -> None:
    folder = tmp_path / "folder"
    with zipfile.ZipFile(packed) as archive:
        archive.extractall(folder)
    first = dict(list(lesion_jpegs.items())[:5])
    for location, expected in ((packed, first), (folder, first), (lesions, lesion_jpegs), (shards, lesion_jpegs)):
        images = SourceImages([location], IdRule())
        assert {name.decode(): images.read(k) for k, name in enumerate(images.ids)} == expected


def test_files_are_joined_named_and_skipped_by_the_rule(tmp_path: Path, packed: Path, lesions: Path) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "ISIC_9000000_downsampled.png").write_bytes(b"a")
    (tmp_path / "more" / "ISIC_9000001_mask.png").write_bytes(b"b")
    rule = IdRule(pattern=r"(ISIC_\d+)(?:_downsampled)?", prefix="P_")
    images = SourceImages([tmp_path / "more", packed], rule)
    assert images.ids.tolist()[-1] == b"P_ISIC_9000000"
    assert len(images) == 6
    assert images.read(5) == b"a"
    assert images.skipped == [str(tmp_path / "more" / "ISIC_9000001_mask.png")]
    with pytest.raises(InputError, match=r"have the same id ISIC_0000000 \(5 such pairs\)"):
        SourceImages([packed, lesions], IdRule())
    with pytest.raises(InputError, match=r"no image is named as id.pattern=X has it, .*mend the pattern"):
        SourceImages([packed], IdRule(pattern="X"))


def test_arrays_are_png_and_say_their_labels(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    arrays = {"train_images": pixels[:2], "train_labels": [[4], [5]], "test_images": pixels[2:], "test_labels": [[0]]}
    np.savez(tmp_path / "a.npz", **{name: np.asarray(array) for name, array in arrays.items()})
    images = SourceImages([tmp_path / "a.npz"], IdRule())
    assert not images.parallel
    assert images.ids.tolist() == [b"test_0", b"train_0", b"train_1"]
    assert images.table is not None
    assert images.table.to_dict("list") == {
        "split": ["train", "train", "test"],
        "index": ["0", "1", "0"],
        "label": ["4", "5", "0"],
    }


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"x": np.zeros(3)}, "holds no train_images"),
        ({"train_images": np.zeros((1, 8, 8, 3))}, "train_images is float64"),
        ({"train_images": np.zeros((1, 8, 8), np.uint8)}, r"train_images is uint8 \(1, 8, 8\)"),
        ({"train_images": np.zeros((2, 8, 8, 3), np.uint8), "train_labels": np.zeros(1)}, "not one for each of 2"),
        ({"train_images": np.array([{}])}, "is not a readable .npz"),  # a pickle
    ],
)
def test_other_arrays_are_refused(tmp_path: Path, arrays: dict[str, np.ndarray], says: str) -> None:
    np.savez(tmp_path / "a.npz", allow_pickle=True, **arrays)
    with pytest.raises(InputError, match=says):
        open_files(tmp_path / "a.npz")


def test_damage_in_a_zip_is_of_one_image(packed: Path, lesion_jpegs: Jpegs) -> None:
    files = open_files(packed)
    data = bytearray(packed.read_bytes())
    stored = next(iter(lesion_jpegs.values()))
    place = data.index(stored) + len(stored) // 2
    data[place] ^= 0xFF
    packed.write_bytes(data)
    with pytest.raises(ImageDecodeError, match="checksum"):
        files.read(0)
    assert files.read(1) == list(lesion_jpegs.values())[1]
    packed.write_bytes(data[:100])
    with pytest.raises(ImageDecodeError, match="damaged in the zip"):
        files.read(4)


def test_what_is_no_source_of_images_is_named(tmp_path: Path, packed: Path) -> None:
    (tmp_path / "broken.zip").write_bytes(packed.read_bytes()[:-40])
    (tmp_path / "empty").mkdir()
    with zipfile.ZipFile(tmp_path / "outer.zip", "w") as archive:
        archive.write(packed, "images/imgs_part_1.zip")
    (tmp_path / "zips").mkdir()
    (tmp_path / "zips" / "part.zip").write_bytes(packed.read_bytes())
    (tmp_path / "text.hdf5").write_text("no HDF5")
    for name, says in (
        ("nowhere.zip", "there is no file"),
        ("broken.zip", "not a readable zip"),
        ("empty", "holds no images"),
        ("outer.zip", r"further zips \(images/imgs_part_1.zip\): unpack it"),
        ("zips", "give the zips themselves, .*part.zip say"),
        ("text.hdf5", "is not a readable HDF5 file"),
    ):
        with pytest.raises(InputError, match=says):
            open_files(tmp_path / name)


def test_a_packed_zip_bomb_is_cut_at_the_size_that_it_names(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", bytes(10_000_000))
    data = bytearray(buffer.getvalue())
    place = data.rindex(b"PK\x01\x02") + 24  # the size in the directory
    data[place : place + 4] = (100).to_bytes(4, "little")
    (tmp_path / "bomb.zip").write_bytes(data)
    with pytest.raises(ImageDecodeError, match="checksum"):
        open_files(tmp_path / "bomb.zip").read(0)
