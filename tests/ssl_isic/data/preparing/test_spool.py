"""Parts on the disk: what is whole is gone on from, up to the first that is not."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from ssl_isic.data.preparing.spool import NOTES_NAME, Plan, Spool, write_hdf5
from ssl_isic.data.preparing.treatment import Treated
from ssl_isic.errors import InputError

PLAN = Plan(images=6, ids_sha256="a" * 64, inputs={"a.zip": "1 bytes"}, settings={"quality": 95, "clean": []})
IMAGES = [
    Treated(b"one"),
    Treated(b"t\x00\x00", "shrunk"),
    Treated(None, fault="cut"),
    Treated(b"f"),
    Treated(b"five\x00"),
]


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    """Three parts: two images, two of which one is left out, and one."""
    spool = Spool(tmp_path / "pool.unfinished", PLAN)
    for start in (0, 2, 4):
        spool.add(IMAGES[start : start + 2])
    return spool


def test_images_come_back_in_order(spool: Spool) -> None:
    for again in (spool, Spool(spool.folder, PLAN)):
        assert len(again) == 5
        assert list(again.images()) == [image.data or b"" for image in IMAGES]
        assert again.changes == ["", "shrunk", "", "", ""]
        assert again.faults == ["", "", "cut", "", ""]


@pytest.mark.parametrize("damage", ["missing", "short", "changed", "note"])
def test_what_follows_damage_is_written_again(spool: Spool, damage: str) -> None:
    path = spool.folder / "part-000001.bin"
    if damage == "missing":
        path.unlink()
    elif damage == "note":  # the process was killed in the middle of the line
        notes = (spool.folder / NOTES_NAME).read_bytes()
        (spool.folder / NOTES_NAME).write_bytes(notes[: notes.index(b"part-000001") + 20])
    else:
        path.write_bytes(b"" if damage == "short" else b"g")
    (spool.folder / ".part-1234-part-000003.bin").write_bytes(b"half")
    again = Spool(spool.folder, PLAN)
    assert len(again) == 2
    assert not list(spool.folder.glob(".part-*"))
    again.add(IMAGES[2:])
    assert list(Spool(spool.folder, PLAN).images()) == [image.data or b"" for image in IMAGES]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"images": 7}, "images=6, this one has images=7"),
        ({"ids_sha256": "b" * 64}, "the ids=aaaaaaaaaaaa, this one has the ids=bbbbbbbbbbbb"),
        ({"settings": {"quality": 95, "clean": ["hair"]}}, r"clean=\[\], this one has clean=\['hair'\]"),
        ({"inputs": {"a.zip": "2 bytes"}}, "a.zip=1 bytes, this one has a.zip=2 bytes"),
        ({"inputs": {}}, "a.zip=1 bytes, this one has a.zip=None"),
    ],
)
def test_parts_of_another_plan_are_refused(spool: Spool, change: dict[str, object], says: str) -> None:
    with pytest.raises(InputError, match=says):
        Spool(spool.folder, PLAN.model_copy(update=change))
    assert len(Spool(spool.folder, PLAN)) == 5


def test_the_file_holds_opaque_scalars_of_what_was_not_left_out(spool: Spool, tmp_path: Path) -> None:
    write_hdf5(tmp_path / "pool.hdf5", np.array([b"A", b"B", b"C", b"D", b"E"]), spool)
    with h5py.File(tmp_path / "pool.hdf5") as file:
        assert list(file) == ["A", "B", "D", "E"]
        assert file["B"].dtype == np.dtype("V3")
        assert file["E"][()].tobytes() == b"five\x00"
