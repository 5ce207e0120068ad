"""What `ssl-isic shards` writes is WebDataset's layout, the same bytes each time, and whole or not there."""

import io
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from ssl_isic import shards as entry
from ssl_isic.data.images import open_store
from ssl_isic.data.shard_index import INDEX_NAME, parse_index

WriteHdf5 = Callable[[Path, Mapping[str, bytes]], Path]
SLOWLY = """
import sys, time
from ssl_isic.data.images import Hdf5Store
from ssl_isic.shards import main
read = Hdf5Store.read
Hdf5Store.read = lambda store, position: (time.sleep(0.02), read(store, position))[1]
sys.exit(main(sys.argv[1:]))
"""


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_every_image_is_in_one_shard_under_its_key(tmp_path: Path, lesion_jpegs: dict[str, bytes]) -> None:
    """As webdataset groups them: key and extension are what is before and after the first dot of a member's name."""
    buffer = io.BytesIO()
    Image.fromarray(np.arange(300, dtype=np.uint8).reshape(10, 10, 3)).save(buffer, "png")
    first, second, *_ = lesion_jpegs
    images = {**lesion_jpegs, "a-png": buffer.getvalue(), first: lesion_jpegs[first] + b"trailing\x00\x00"}
    images[second] = b"no image at all"
    with h5py.File(tmp_path / "images.hdf5", "w") as file:
        for name, data in images.items():
            file.create_dataset(name, data=np.void(data))
    assert entry.main([f"images={tmp_path / 'images.hdf5'}", f"out={tmp_path / 'out'}", "shard_mb=0.02"]) == 0
    found: dict[str, bytes] = {}
    for path in sorted((tmp_path / "out").glob("*.tar")):
        assert path.stat().st_size <= 20_000 + 2 * tarfile.BLOCKSIZE + tarfile.RECORDSIZE
        with tarfile.open(path) as tar:
            for member in tar:
                key, _, extension = member.name.partition(".")
                data = tar.extractfile(member)
                assert data is not None
                assert key not in found
                assert (extension, member.mtime) == ("png" if key == "a-png" else "jpg", 0)
                found[key] = data.read()
    assert found == images
    store = open_store(tmp_path / "out")
    assert {name.decode(): store.read(k) for k, name in enumerate(store.ids)} == images


def test_another_seed_deals_the_images_otherwise_and_the_same_gives_the_same_bytes(
    tmp_path: Path, lesions: Path
) -> None:
    for name, seed in (("one", 0), ("again", 0), ("other", 1)):
        assert entry.main([f"images={lesions}", f"out={tmp_path / name}", "shard_mb=0.02", f"seed={seed}"]) == 0
    assert files_of(tmp_path / "one") == files_of(tmp_path / "again")
    one, other = (parse_index((tmp_path / name / INDEX_NAME).read_bytes(), name) for name in ("one", "other"))
    assert one.shards[0].ids != other.shards[0].ids
    in_order = [name for shard in one.shards for name in shard.ids]
    assert in_order != sorted(in_order)


@pytest.mark.slow
def test_a_writing_that_is_killed_goes_on_to_the_same_files(tmp_path: Path, lesions: Path, shards: Path) -> None:
    out = tmp_path / "out"
    words = [f"images={lesions}", f"out={out}", "shard_mb=0.02"]
    process = subprocess.Popen([sys.executable, "-c", SLOWLY, *words], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not (out / "shard-00002.tar").exists() or not any(out.glob(".part-*-shard-00003.tar")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (out / INDEX_NAME).exists()
    (out / "shard-00001.tar").write_bytes(b"damaged meanwhile")
    kept = (out / "shard-00000.tar").stat()
    assert entry.main(words) == 0
    assert files_of(out) == files_of(shards)
    assert (out / "shard-00000.tar").stat().st_ino == kept.st_ino, "a finished shard is not written again"


def test_a_finished_writing_is_verified_and_mended(tmp_path: Path, lesions: Path, shards: Path) -> None:
    words = [f"images={lesions}", f"out={tmp_path / 'out'}", "shard_mb=0.02"]
    assert entry.main(words) == 0
    (tmp_path / "out" / "shard-00003.tar").unlink()
    os.truncate(tmp_path / "out" / "shard-00004.tar", 1000)
    assert entry.main(words) == 0
    assert files_of(tmp_path / "out") == files_of(shards)


def test_other_images_of_the_same_ids_are_no_finished_writing(
    tmp_path: Path, lesion_jpegs: dict[str, bytes], write_hdf5: WriteHdf5, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second, *_ = lesion_jpegs
    swapped = {**lesion_jpegs, first: lesion_jpegs[second], second: lesion_jpegs[first]}
    out = f"out={tmp_path / 'out'}"
    assert entry.main([f"images={write_hdf5(tmp_path / 'a.hdf5', lesion_jpegs)}", out, "shard_mb=0.02"]) == 0
    before = files_of(tmp_path / "out")
    capsys.readouterr()
    assert entry.main([f"images={write_hdf5(tmp_path / 'b.hdf5', swapped)}", out, "shard_mb=0.02"]) == 2
    error = capsys.readouterr().err
    assert any(f"holds another {name} than" in error for name in (first, second))
    assert files_of(tmp_path / "out") == before


def test_what_cannot_be_written_is_one_line(
    tmp_path: Path, lesions: Path, write_hdf5: WriteHdf5, capsys: pytest.CaptureFixture[str]
) -> None:
    other = write_hdf5(tmp_path / "other.hdf5", {"ISIC_1": b"\xff\xd8"})
    dotted = write_hdf5(tmp_path / "dotted.hdf5", {"ISIC_1.2": b"\xff\xd8"})
    stray = tmp_path / "stray"
    stray.mkdir()
    (stray / "a.jpg").write_bytes(b"")
    out = f"out={tmp_path / 'out'}"
    assert entry.main([f"images={lesions}", out]) == 0
    capsys.readouterr()
    for words, says in (
        ([f"images={lesions}", out, "seed=3"], "holds shards with seed=0, these have seed=3"),
        ([f"images={other}", out], "holds shards with images=48, these have images=1"),
        ([f"images={lesions}", f"out={stray}"], "holds a.jpg, which is no shard of these images"),
        ([f"images={dotted}", f"out={tmp_path / 'new'}"], "'ISIC_1.2' is no WebDataset key"),
    ):
        assert entry.main(words) == 2
        error = capsys.readouterr().err
        assert says in error
        assert error.count("\n") == 1
    assert not (tmp_path / "new").exists()
