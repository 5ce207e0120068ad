"""A store gives back the bytes that were put in, whoever reads it, and names what is wrong with a file."""

import io
import os
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path

import h5py
import numpy as np
import pytest
import simplejpeg
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from ssl_isic.data.decoding import ImageDecodeError, decode_rgb
from ssl_isic.data.folder_store import FolderStore
from ssl_isic.data.hdf5_store import Hdf5Store
from ssl_isic.data.images import ImagePool, open_store
from ssl_isic.errors import InputError

WriteHdf5 = Callable[[Path, Mapping[str, bytes]], Path]


def png_of(pixels: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "png")
    return buffer.getvalue()


def write_opaque(path: Path, images: Mapping[str, bytes]) -> Path:
    with h5py.File(path, "w") as file:
        for name, data in images.items():
            file.create_dataset(name, data=np.void(data))
    return path


def write_folder(path: Path, images: Mapping[str, bytes]) -> Path:
    for k, (name, data) in enumerate(images.items()):
        file = path / f"part{k % 2}" / f"{name}{'.jpg' if k % 3 else '.JPEG'}"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    return path


def test_every_kind_of_store_gives_the_same_bytes(
    tmp_path: Path, write_hdf5: WriteHdf5, lesion_jpegs: dict[str, bytes]
) -> None:
    some = dict(reversed(list(lesion_jpegs.items())[:7]))
    paths = (
        write_hdf5(tmp_path / "strings.hdf5", some),
        write_opaque(tmp_path / "opaque.hdf5", some),
        write_folder(tmp_path / "folder", some),
    )
    for path in paths:
        store = open_store(path)
        assert [name.decode() for name in store.ids] == sorted(some)
        assert {name.decode(): store.read(k) for k, name in enumerate(store.ids)} == some


def test_opaque_bytes_keep_trailing_nuls_and_strings_lose_them(tmp_path: Path, write_hdf5: WriteHdf5) -> None:
    data = {"a": b"\xff\xd8 something\x00\x00"}
    assert Hdf5Store(write_opaque(tmp_path / "o.hdf5", data)).read(0) == data["a"]
    assert Hdf5Store(write_hdf5(tmp_path / "s.hdf5", data)).read(0) == data["a"].rstrip(b"\x00")


def test_png_is_decoded_without_loss_and_jpeg_as_pillow_does(lesion_jpegs: dict[str, bytes]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype(np.uint8)
    np.testing.assert_array_equal(decode_rgb(png_of(pixels)), pixels)
    for data in list(lesion_jpegs.values())[:5]:
        with Image.open(io.BytesIO(data)) as image:
            peer = np.asarray(image.convert("RGB")).astype(int)
        ours = decode_rgb(data)
        assert ours.dtype == np.uint8
        assert np.abs(ours.astype(int) - peer).mean() < 1  # two builds of libjpeg round differently


def test_grey_and_transparent_and_cmyk_images_become_rgb() -> None:
    grey = np.arange(240, dtype=np.uint8).reshape(12, 20)
    np.testing.assert_array_equal(decode_rgb(png_of(grey)), np.stack([grey] * 3, axis=-1))
    rgba = np.random.default_rng(1).integers(0, 256, (12, 20, 4)).astype(np.uint8)
    np.testing.assert_array_equal(decode_rgb(png_of(rgba)), rgba[..., :3])
    flat = np.full((16, 16), 200, np.uint8)
    assert decode_rgb(simplejpeg.encode_jpeg(flat[..., None], colorspace="GRAY")).shape == (16, 16, 3)
    buffer = io.BytesIO()
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(buffer, "jpeg")
    red = decode_rgb(buffer.getvalue()).reshape(-1, 3).mean(axis=0)
    assert red[0] > 200
    assert red[1:].max() < 60


def test_grey_of_16_bits_keeps_its_shades_and_what_has_no_white_is_refused() -> None:
    """Pillow would clip it at 255."""
    ramp = np.linspace(0, 65535, 240).astype(np.uint16).reshape(12, 20)
    np.testing.assert_array_equal(decode_rgb(png_of(ramp)), np.stack([ramp >> 8] * 3, axis=-1))
    for mode in ("I", "F"):
        buffer = io.BytesIO()
        Image.new(mode, (4, 4), 3).save(buffer, "tiff")
        with pytest.raises(ImageDecodeError, match=f"its pixels have 32 bits .mode {mode}., of which nothing says"):
            decode_rgb(buffer.getvalue())


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.9, 0.99])
def test_a_truncated_image_does_not_decode(share: float, lesion_jpegs: dict[str, bytes]) -> None:
    jpeg = lesion_jpegs["ISIC_0000000"]
    png = png_of(np.random.default_rng(2).integers(0, 256, (20, 30, 3)).astype(np.uint8))
    whole_pixels = [png] if share < 0.95 else []  # the last bytes of a PNG are a checksum, no pixels
    for data in (jpeg, *whole_pixels):
        with pytest.raises(ImageDecodeError):
            decode_rgb(data[: int(share * len(data))])


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")  # a damaged size is huge
def test_damage_gives_pixels_or_image_decode_error_and_nothing_else(lesion_jpegs: dict[str, bytes]) -> None:
    rng = np.random.default_rng(3)
    png = png_of(rng.integers(0, 256, (8, 8, 3)).astype(np.uint8))
    refused = 0
    for trial in range(400):
        whole = png if trial % 2 else lesion_jpegs["ISIC_0000001"]
        data = bytearray(whole)
        for place in rng.integers(0, min(len(data), 200), size=3):
            data[place] = rng.integers(0, 256)
        try:
            pixels = decode_rgb(bytes(data))
        except ImageDecodeError:
            refused += 1
        else:
            assert pixels.ndim == 3
            assert pixels.shape[2] == 3
    assert refused > 50


def test_a_pool_is_its_sources_one_after_the_other(
    tmp_path: Path, write_hdf5: WriteHdf5, lesion_jpegs: dict[str, bytes]
) -> None:
    names = list(lesion_jpegs)
    parts = {"late": names[20:25], "early": names[3:10], "one": names[3:4]}
    sources = {
        source: write_hdf5(tmp_path / f"{source}.hdf5", {n: lesion_jpegs[n] for n in part})
        for source, part in parts.items()
    }
    pool = ImagePool(sources)
    expected = [(source, name) for source, part in parts.items() for name in part]
    assert len(pool) == len(expected)
    assert [(pool.source_of(k), pool.id_of(k)) for k in range(len(pool))] == expected
    assert all(pool.read(k) == lesion_jpegs[name] for k, (_, name) in enumerate(expected))
    for source, part in parts.items():
        start, ids = pool.slice_of(source)
        assert [pool.id_of(start + k) for k in range(len(ids))] == part
        assert [name.decode() for name in ids] == part


def test_pickling_drops_the_open_file(lesions: Path, lesion_jpegs: dict[str, bytes]) -> None:
    store = Hdf5Store(lesions)
    first = store.read(0)
    copy = pickle.loads(pickle.dumps(store))
    assert copy._file is None
    assert store._file is not None
    assert copy.read(0) == first == lesion_jpegs["ISIC_0000000"]


class Decoded(Dataset[NDArray[np.uint8]]):
    """Pixels of each image of a pool, padded to 64 x 64."""

    def __init__(self, pool: ImagePool) -> None:
        self.pool = pool

    def __len__(self) -> int:
        return len(self.pool)

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        pixels = decode_rgb(self.pool.read(index))
        return np.pad(pixels, ((0, 64 - pixels.shape[0]), (0, 64 - pixels.shape[1]), (0, 0)))


def test_forked_workers_read_what_the_parent_reads_even_after_the_parent_has_read(lesions: Path) -> None:
    dataset = Decoded(ImagePool({"a": lesions}))
    here = np.stack([dataset[k] for k in range(len(dataset))])  # opens the file before the fork
    loader = DataLoader(dataset, batch_size=8, num_workers=2, multiprocessing_context="fork")
    np.testing.assert_array_equal(np.concatenate([batch.numpy() for batch in loader]), here)
    np.testing.assert_array_equal(dataset[5], here[5])


def test_no_such_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no such file: .*none\.hdf5"):
        open_store(tmp_path / "none.hdf5")


@pytest.mark.parametrize("content", [b"", b"isic_id,target\n", b"\x89HDF\r\n\x1a\n" + bytes(100)])
def test_a_file_that_is_not_hdf5_is_named(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "bad.hdf5"
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"bad\.hdf5 is not a readable HDF5 file"):
        open_store(file)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("shards.json", "of shards give the folder"),
        ("shard-00000.tar", "of shards give the folder"),
        ("t.csv", "give an HDF5 file or a folder of images, not a .csv"),
    ],
)
def test_a_file_of_another_kind_is_told_what_is_wanted(name: str, says: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("isic_id,target\n")
    with pytest.raises(InputError, match=f"{name} is not a readable HDF5 file.*; {says}"):
        ImagePool({"a": tmp_path / name})


def test_half_of_a_download_is_named(tmp_path: Path, lesions: Path) -> None:
    file = tmp_path / "half.hdf5"
    file.write_bytes(lesions.read_bytes()[: lesions.stat().st_size // 2])
    with pytest.raises(InputError, match=r"half\.hdf5 is not a readable HDF5 file.*download"):
        open_store(file)


def test_an_empty_store_is_named(tmp_path: Path, write_hdf5: WriteHdf5) -> None:
    with pytest.raises(InputError, match=r"empty\.hdf5 holds no images"):
        open_store(write_hdf5(tmp_path / "empty.hdf5", {}))
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "readme.txt").write_text("no images")
    with pytest.raises(InputError, match=r"folder holds no \.jpg"):
        open_store(tmp_path / "folder")


def test_an_hdf5_of_something_else_is_named(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "arrays.hdf5", "w") as file:
        file["images"] = np.zeros((4, 8, 8, 3), np.uint8)
    with pytest.raises(InputError, match=r"arrays\.hdf5: images does not hold the bytes"):
        open_store(tmp_path / "arrays.hdf5")
    with h5py.File(tmp_path / "groups.hdf5", "w") as file:
        file.create_group("train")
    with pytest.raises(InputError, match=r"groups\.hdf5: train does not hold the bytes"):
        open_store(tmp_path / "groups.hdf5")


def test_two_files_of_one_id_are_refused(tmp_path: Path, lesion_jpegs: dict[str, bytes]) -> None:
    for name in ("a/ISIC_1.jpg", "b/ISIC_1.png", "a/ISIC_2.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(lesion_jpegs["ISIC_0000000"])
    with pytest.raises(InputError, match=r"ISIC_1\.\w+ and ./ISIC_1\.\w+ have the same id"):
        FolderStore(tmp_path)


def test_what_macos_leaves_is_no_image_and_a_name_that_is_no_text_is_named(
    tmp_path: Path, lesion_jpegs: dict[str, bytes]
) -> None:
    jpeg = lesion_jpegs["ISIC_0000000"]
    for name in ("ISIC_1.jpg", "._ISIC_1.jpg", "__MACOSX/ISIC_2.jpg", "n\u00e6vus\u00a0a.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(jpeg)
    assert FolderStore(tmp_path).ids.tolist() == [b"ISIC_1", "n\u00e6vus\u00a0a".encode()]
    (tmp_path / os.fsdecode(b"n\xe6vus.png")).write_bytes(jpeg)
    with pytest.raises(InputError, match=r"the name of 'n.udce6vus\.png' is not UTF-8; rename the file"):
        FolderStore(tmp_path)


def test_a_pool_without_sources_is_refused() -> None:
    with pytest.raises(InputError, match=r"data\.sources"):
        ImagePool({})


def test_a_dataset_of_uint8_gives_its_bytes(tmp_path: Path, lesion_jpegs: dict[str, bytes]) -> None:
    path = tmp_path / "arrays.hdf5"
    with h5py.File(path, "w") as file:
        for name, data in lesion_jpegs.items():
            file[name] = np.frombuffer(data, np.uint8)
    store = open_store(path)
    assert {str(name.decode()): store.read(k) for k, name in enumerate(store.ids)} == lesion_jpegs
