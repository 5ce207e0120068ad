"""Bytes are the same by way of HDF5, from their place in the file, and from memory; a file that changes is named."""

import os
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path

import h5py
import numpy as np
import pytest

from ssl_isic.data import hdf5_store
from ssl_isic.data.hdf5_store import Hdf5Store
from ssl_isic.errors import InputError

WriteHdf5 = Callable[[Path, Mapping[str, bytes]], Path]


def write_all_forms(path: Path, data: bytes) -> Path:
    """A file with a user block before it, and `data` in every form that HDF5 can give it, in and out of one piece."""
    with h5py.File(path, "w", userblock_size=1024) as file:
        file.create_dataset("a_string", data=np.bytes_(data))
        file.create_dataset("b_opaque", data=np.void(data))
        file.create_dataset("c_bytes", data=np.frombuffer(data, np.uint8))
        file.create_dataset("d_chunked", data=np.frombuffer(data, np.uint8), chunks=(64,), compression="gzip")
        file.create_dataset("e_variable", data=data.hex(), dtype=h5py.string_dtype())
        padded = file.create_dataset("f_padded", shape=(), dtype=f"S{len(data) + 9}")
        padded[()] = np.bytes_(data)
    return path


def test_every_form_gives_its_bytes_the_first_time_again_and_from_memory(tmp_path: Path) -> None:
    data = np.random.default_rng(0).bytes(500) + b"\xff"
    store = Hdf5Store(write_all_forms(tmp_path / "forms.hdf5", data))
    expected = [data, data, data, data, data.hex().encode(), data]
    assert [store.read(k) for k in range(6)] == expected
    assert (store._places.values[:, 1] > 0).tolist() == [True, True, True, False, False, True]
    assert [store.read(k) for k in range(6)] == expected
    held: list[int] = []
    store.hold(held.append)
    assert sum(held) == store.size_bytes() == (tmp_path / "forms.hdf5").stat().st_size
    assert [store.read(k) for k in range(6)] == expected


def test_hdf5_is_opened_anew_after_so_many_look_ups(lesions: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = [Hdf5Store(lesions).read(k) for k in range(10)]
    monkeypatch.setattr(hdf5_store, "LOOK_UPS_OF_AN_OPENING", 3)
    opened: list[Path] = []
    plain = h5py.File
    store = Hdf5Store(lesions)
    monkeypatch.setattr(h5py, "File", lambda path, *words, **more: opened.append(path) or plain(path, *words, **more))
    assert [store.read(k) for k in range(10)] == expected
    assert opened == [lesions] * 4
    assert [store.read(k) for k in range(10)] == expected  # their places are known
    assert len(opened) == 4


def test_bytes_come_from_memory_once_they_are_held(lesions: Path, tmp_path: Path) -> None:
    file = tmp_path / "gone.hdf5"
    file.write_bytes(lesions.read_bytes())
    store = Hdf5Store(file)
    before = store.read(7)
    store.hold(lambda _: None)
    file.write_bytes(b"something else")
    assert store.read(7) == before


@pytest.mark.parametrize("asked_before", [True, False])
@pytest.mark.parametrize("opened_before", [True, False])
def test_a_file_that_is_written_to_is_named(
    opened_before: bool, asked_before: bool, lesions: Path, tmp_path: Path
) -> None:
    file = tmp_path / "mine.hdf5"
    file.write_bytes(lesions.read_bytes())
    store = Hdf5Store(file)
    if opened_before:
        store.read(3 if asked_before else 4)
    file.write_bytes(lesions.read_bytes()[::-1])
    os.utime(file, ns=(0, 0))
    with pytest.raises(InputError, match=r"mine\.hdf5 was changed or replaced while it was read"):
        store.read(3)


def test_a_file_that_is_replaced_is_read_on_where_it_is_open_and_named_where_it_is_not(
    lesions: Path, tmp_path: Path, write_hdf5: WriteHdf5
) -> None:
    file = tmp_path / "mine.hdf5"
    file.write_bytes(lesions.read_bytes())
    store = Hdf5Store(file)
    before = store.read(3)
    write_hdf5(tmp_path / "other.hdf5", {"ISIC_0000003": b"other"}).replace(file)
    assert store.read(3) == before
    with pytest.raises(InputError, match=r"mine\.hdf5 was changed or replaced"):
        pickle.loads(pickle.dumps(store)).read(3)
    file.unlink()
    with pytest.raises(InputError, match=r"cannot read .*mine\.hdf5 any more \(No such file"):
        pickle.loads(pickle.dumps(store)).read(3)


def test_a_file_that_is_cut_is_named(lesions: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.hdf5"
    file.write_bytes(lesions.read_bytes())
    store = Hdf5Store(file)
    for position in range(48):
        store.read(position)
    os.truncate(file, file.stat().st_size // 2)
    with pytest.raises(InputError, match=r"mine\.hdf5 was changed"):
        store.read(47)


def test_something_that_is_no_image_among_images_is_named(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "mixed.hdf5", "w") as file:
        file["a"] = np.bytes_(b"image")
        file.create_group("b")
    store = Hdf5Store(tmp_path / "mixed.hdf5")
    assert store.read(0) == b"image"
    with pytest.raises(InputError, match=r"mixed\.hdf5: b cannot be read"):
        store.read(1)


def test_a_dataset_without_a_value_is_no_bytes(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "empty.hdf5", "w") as file:
        file["a"], file["b"] = np.void(b"bytes"), h5py.Empty("S10")
    store = Hdf5Store(tmp_path / "empty.hdf5")
    assert [store.read(row) for row in range(2)] == [b"bytes", b""]
