"""Images in memory are the same images, and memory that is not there is not asked for."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from ssl_isic.data import ram_cache
from ssl_isic.data.images import ImagePool
from ssl_isic.data.ram_cache import CachedLoaderConfig, free_bytes
from ssl_isic.errors import InputError

WriteHdf5 = Callable[[Path, Mapping[str, bytes]], Path]


@pytest.fixture
def sources(tmp_path: Path, lesions: Path, lesion_jpegs: dict[str, bytes]) -> dict[str, Path]:
    """An HDF5 file and a folder."""
    for name, data in lesion_jpegs.items():
        (tmp_path / "folder" / f"{name}.jpg").parent.mkdir(exist_ok=True)
        (tmp_path / "folder" / f"{name}.jpg").write_bytes(data)
    return {"file": lesions, "folder": tmp_path / "folder"}


def test_held_images_are_the_files_bytes_and_need_the_files_no_more(
    sources: dict[str, Path], lesion_jpegs: dict[str, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    pool = ImagePool(sources)
    pool.cache(CachedLoaderConfig(cache="ram"), show=True)
    assert "images to memory: 100%" in capsys.readouterr().err
    for file in sources["folder"].iterdir():
        file.unlink()
    expected = list(lesion_jpegs.values())
    assert [pool.read(k) for k in range(48, 96)] == [pool.read(k) for k in range(48)] == expected


@pytest.mark.parametrize("cache", ["auto", "none"])
def test_other_ways_read_the_same(cache: str, sources: dict[str, Path], lesion_jpegs: dict[str, bytes]) -> None:
    pool = ImagePool(sources)
    pool.cache(CachedLoaderConfig.model_validate({"cache": cache}), show=False)
    assert [pool.read(k) for k in range(48)] == list(lesion_jpegs.values())


def test_what_does_not_fit_is_refused(sources: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    pool = ImagePool(sources)
    with pytest.raises(
        InputError, match=r"cache=ram: the images take 0\.0\d+ GB, more than data\.cache_gb=1e-06; raise"
    ):
        pool.cache(CachedLoaderConfig(cache="ram", cache_gb=1e-6), show=False)
    monkeypatch.setattr(ram_cache, "free_bytes", lambda: 1000)
    with pytest.raises(InputError, match=r"cache=ram: .* more than half of the 1e-06 GB of memory that are free"):
        pool.cache(CachedLoaderConfig(cache="ram"), show=False)
    pool.cache(CachedLoaderConfig(cache="auto"), show=False)  # reads nothing ahead
    size = sum(store.size_bytes() for store in pool.stores)
    monkeypatch.setattr(ram_cache, "free_bytes", lambda: 10 * size)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")
    with pytest.raises(InputError, match=r"cache=ram: the images take \S+ GB in each of 8 processes, more than half"):
        pool.cache(CachedLoaderConfig(cache="ram"), show=False)


def test_shards_are_not_held(shards: Path) -> None:
    with pytest.raises(InputError, match=r"data\.cache=ram: tars is in shards.*data\.cache=auto"):
        ImagePool({"tars": shards}).cache(CachedLoaderConfig(cache="ram"), show=False)


def test_a_container_has_what_its_limit_leaves_and_the_files_that_can_go(tmp_path: Path) -> None:
    for name, text in {
        "memory.max": "1000\n",
        "memory.current": "700\n",
        "memory.stat": "anon 300\ninactive_file 250\n",
    }.items():
        (tmp_path / name).write_text(text)
    assert ram_cache._free_of_group(tmp_path) == 550
    (tmp_path / "memory.max").write_text("max\n")
    assert ram_cache._free_of_group(tmp_path) > 1 << 50
    assert ram_cache._free_of_group(tmp_path / "none") > 1 << 50
    (tmp_path / "meminfo").write_text("MemTotal: 10 kB\nMemAvailable:    7 kB\n")
    assert ram_cache._free_of_machine(tmp_path / "meminfo") == 7 * 1024
    assert 0 < free_bytes() < 1 << 50
