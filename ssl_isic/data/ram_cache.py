"""The bytes of images in memory, once for all workers of a process, where they fit.

The operating system keeps files that were read in memory, once for all processes of the machine, and lets go of them when
memory is wanted. `auto` asks it to read ahead what a training will go through again and again. `ram` makes a copy that cannot
be let go of: for folders of many small files, slow disks, and machines whose memory others fill with files of theirs.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field
from tqdm import tqdm

from ssl_isic.data.folder_store import FolderStore
from ssl_isic.data.hdf5_store import Hdf5Store
from ssl_isic.data.store import JpegStore
from ssl_isic.data.workers import LoaderConfig
from ssl_isic.errors import InputError

GB = 1_000_000_000
SHARE_OF_FREE = 0.5
Holdable = Hdf5Store | FolderStore
Cache = Literal["auto", "ram", "none"]


class CachedLoaderConfig(LoaderConfig):
    """How images are read that come up again and again."""

    cache: Cache = "auto"
    """`auto` has the system read HDF5 files ahead where they fit; `ram` holds a copy of all sources in memory; or `none`."""
    cache_gb: float = Field(16.0, gt=0)
    """Most memory for that, GB (a billion bytes); half of what is free at most."""


def cache_bytes(stores: Mapping[str, JpegStore], cache: Cache, limit_gb: float, show: bool) -> None:
    """Have the bytes of named `stores` in memory before workers start; `show` draws a progress bar.

    Raises:
        InputError: `ram` where they do not fit, or cannot be held; a file that changes meanwhile.
    """
    if cache == "ram":
        _hold(_holdable(stores), limit_gb, show)
    if cache == "auto":
        files = [store for store in stores.values() if isinstance(store, Hdf5Store)]
        if sum(store.size_bytes() for store in files) <= min(limit_gb * GB, SHARE_OF_FREE * free_bytes()):
            for store in files:
                store.read_ahead()


def _holdable(stores: Mapping[str, JpegStore]) -> list[Holdable]:
    holdable = []
    for name, store in stores.items():
        if not isinstance(store, Holdable):
            raise InputError(
                f"data.cache=ram: {name} is in shards, which are read in windows of a few; set data.cache=auto"
            )
        holdable.append(store)
    return holdable


def _hold(stores: list[Holdable], limit_gb: float, show: bool) -> None:
    needed = sum(store.size_bytes() for store in stores)
    if needed > limit_gb * GB:
        raise InputError(
            f"data.cache=ram: the images take {needed / GB:.3g} GB, more than data.cache_gb={limit_gb:g}; "
            "raise that, or set data.cache=auto"
        )
    free, ranks = free_bytes(), int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    if ranks * needed > SHARE_OF_FREE * free:
        of_each = f" in each of {ranks} processes" if ranks > 1 else ""
        raise InputError(
            f"data.cache=ram: the images take {needed / GB:.3g} GB{of_each}, more than half of the {free / GB:.3g} GB of "
            "memory that are free; set data.cache=auto"
        )
    with tqdm(total=needed, desc="images to memory", unit="B", unit_scale=True, disable=not show) as bar:
        for store in stores:
            store.hold(bar.update)


def free_bytes() -> int:
    """Memory that a process can still get: of the machine, or of the control group (container) that it runs in."""
    return min(_free_of_machine(Path("/proc/meminfo")), _free_of_group(Path("/sys/fs/cgroup")))


def _free_of_machine(meminfo: Path) -> int:
    if meminfo.is_file():
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2  # macOS does not say what is free


def _free_of_group(folder: Path) -> int:
    """What a control group of version 2 leaves: its limit without what is in use, but for files that can be let go of."""
    try:
        limit = (folder / "memory.max").read_text().strip()
        used = int((folder / "memory.current").read_text())
        statistics = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    except OSError:
        return 1 << 62
    return 1 << 62 if limit == "max" else int(limit) - used + int(statistics["inactive_file"])
