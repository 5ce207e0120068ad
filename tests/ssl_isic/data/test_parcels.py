"""A batch that a worker sends is the batch that it made, however long the training process holds on to it."""

import errno
import os
import pickle
import subprocess
import sys
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ssl_isic.data import parcels as module
from ssl_isic.data import shared_array
from ssl_isic.data.parcels import Blocks, Packing, Parcel, parcels
from ssl_isic.data.shared_array import SharedArray
from ssl_isic.data.workers import LoaderConfig
from ssl_isic.errors import InputError


class Numbered:
    """Batches of two views whose pixels all are the row's number."""

    def pack(self, rows: list[int], packing: Packing) -> Any:
        for place, row in enumerate(rows):
            packing.put(place, [np.full((4, 6, 3), row, np.uint8), np.full((2, 2, 3), row + 100, np.uint8)])
        return packing.sealed({"row": np.array(rows)}, bad=[rows[0]])


BYTES = 4 * (4 * 6 + 2 * 2) * 3


def drawn(loader: LoaderConfig, rows: int = 42, largest_bytes: int = BYTES) -> Any:
    """The parcels of `rows` rows in batches of 4."""
    return parcels(Numbered(), largest_bytes, loader, sampler=list(range(rows)), batch_size=4)


def check(parcel: Parcel, start: int, stop: int) -> None:
    """That the parcel is of rows `start` to `stop`."""
    large, small = parcel.views()
    rows = torch.arange(start, stop)
    assert large.shape == (stop - start, 4, 6, 3)
    assert small.shape == (stop - start, 2, 2, 3)
    assert torch.equal(large, rows[:, None, None, None].expand_as(large).byte())
    assert torch.equal(small, rows[:, None, None, None].expand_as(small).byte() + 100)
    assert parcel.numbers["row"].tolist() == rows.tolist()
    assert parcel.bad == [start]


@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize("largest_bytes", [BYTES, BYTES // 2])  # too small a block is not used
def test_batches_arrive_as_they_were_made(workers: int, largest_bytes: int) -> None:
    loader = LoaderConfig(workers=workers, prefetch=1)
    for number, parcel in enumerate(drawn(loader, largest_bytes=largest_bytes)):
        check(parcel, 4 * number, min(4 * number + 4, 42))
    assert number == 10


def test_batches_that_are_kept_are_not_written_over() -> None:
    kept = list(drawn(LoaderConfig(workers=2, prefetch=1), rows=80))
    assert len(kept) == 20
    for number, parcel in enumerate(kept):
        check(parcel, 4 * number, 4 * number + 4)


def test_a_block_is_free_again_when_the_last_view_of_it_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Blocks] = []

    class Watched(Blocks):
        def __init__(self, *options: Any) -> None:
            super().__init__(*options)
            made.append(self)

    monkeypatch.setattr(module, "Blocks", Watched)
    batches = drawn(LoaderConfig(workers=1, prefetch=1), rows=12)
    views = [parcel.views()[1] for parcel in batches]
    taken = made[0]._taken.values
    assert taken.tolist() == [[True, True, True]]
    del views[1]
    assert taken.sum() == 2
    del views
    assert not taken.any()
    assert len(list(drawn(LoaderConfig(workers=1, prefetch=1)))) == 11


def test_a_batch_without_a_block_takes_no_shared_memory_of_torchs() -> None:
    """A tensor's would not be there in a container of 64 MB, and the batch be waited for without end."""
    sent = Numbered().pack([0, 1, 2, 3], Packing(4, Blocks(LoaderConfig(workers=1, prefetch=1), BYTES)))
    data = ForkingPickler.dumps(sent)
    assert len(data) > BYTES, "the pixels are in the message"
    parcel = pickle.loads(data)
    check(parcel, 0, 4)
    parcel.pixels[0] = 7


def test_memory_that_is_not_there_is_not_promised(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a large array each page is reserved; where shared memory has no room for it, it is a file on a disk."""
    asked = list[int]()

    def refused(descriptor: int, start: int, size: int) -> None:
        asked.append(size)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", refused)
    array = SharedArray((8,), np.uint8)
    assert asked == []
    monkeypatch.setattr(shared_array, "SMALL_SHARE", 0.0)
    array = SharedArray((3, 1000), np.int32)
    assert asked == [12000]
    assert isinstance(array._memory, shared_array._DiskArena)
    array.values[...] = 5
    assert array.values.sum() == 15000


SPAWNS = """
import multiprocessing, numpy as np
from ssl_isic.data.shared_array import SharedArray, _DiskArena

def fill(array):
    array.values[...] = np.arange(3000).reshape(3, 1000)

if __name__ == "__main__":
    for method in ("fork", "spawn"):
        array = SharedArray((3, 1000), np.int32)
        array._memory, array.values = _DiskArena(12000), None
        array.values = array._mapped()
        process = multiprocessing.get_context(method).Process(target=fill, args=(array,))
        process.start()
        process.join()
        assert array.values.sum() == 4498500
"""


def test_memory_on_a_disk_is_shared_by_fork_and_spawn(tmp_path: Path) -> None:
    (tmp_path / "spawns.py").write_text(SPAWNS)
    done = subprocess.run([sys.executable, str(tmp_path / "spawns.py")], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_blocks_stay_below_their_limit() -> None:
    blocks = Blocks(LoaderConfig(workers=4, prefetch=4), 340 << 20)
    assert blocks._pixels.values.shape[:2] == (4, 3)


class Failing:
    """A dataset that refuses."""

    def pack(self, rows: list[int], packing: Packing) -> Any:
        raise InputError("no: such row")


@pytest.mark.parametrize("workers", [0, 1])
def test_what_a_worker_refuses_is_one_line(workers: int) -> None:
    with pytest.raises(InputError) as refused:
        list(parcels(Failing(), 10, LoaderConfig(workers=workers), sampler=[0], batch_size=1))
    assert str(refused.value) == "no: such row"


def test_what_was_shared_by_mistake_is_found(tmp_path: Path) -> None:
    packing = Packing(2, None)
    packing.put(0, [np.zeros((2, 2, 3), np.uint8)])
    with pytest.raises(ValueError, match="broadcast"):
        packing.put(1, [np.zeros((3, 2, 3), np.uint8)])
