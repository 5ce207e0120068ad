"""Images in shards read like any others, from a folder or a URL, and a server's faults end in the right bytes or one line."""

import errno
import gc
import itertools
import json
import pickle
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec.asyn
import fsspec.config
import numpy as np
import pytest
from torch.utils.data import DataLoader, Dataset

from ssl_isic.config import validate
from ssl_isic.data import remote, shard_cache
from ssl_isic.data.images import ImagePool, open_store
from ssl_isic.data.loading import BatchLayout, TrainingStream
from ssl_isic.data.remote import LONGEST_SILENCE_S, _patience
from ssl_isic.data.shard_cache import ShardCache
from ssl_isic.data.shard_index import INDEX_NAME
from ssl_isic.data.shard_order import WindowedOrder
from ssl_isic.data.shard_store import GB, OpenShards, ShardReading, ShardStore
from ssl_isic.data.views import ViewsConfig, simclr_views
from ssl_isic.errors import InputError
from ssl_isic.pool import Pool, PoolConfig


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "FIRST_WAIT_S", 0.01)
    monkeypatch.setattr(shard_cache, "PAUSE_S", 0.0)


def reading(folder: Path, **changed: Any) -> ShardReading:
    return ShardReading(cache=folder / "cache", window=2, **changed)


def pool_of(url: str, folder: Path, **changed: Any) -> ImagePool:
    return ImagePool({"far": url}, reading(folder, **changed))


def everything(pool: ImagePool) -> dict[str, bytes]:
    return {pool.id_of(k): pool.read(k) for k in range(len(pool))}


def cached(folder: Path) -> list[Path]:
    return sorted((folder / "cache").glob("*.tar"))


def test_shards_give_the_bytes_that_went_in(
    tmp_path: Path, shards: Path, lesion_jpegs: dict[str, bytes], file_server: Any
) -> None:
    assert everything(ImagePool({"near": shards})) == lesion_jpegs
    assert everything(pool_of(file_server.url, tmp_path)) == lesion_jpegs
    memory = fsspec.filesystem("memory")
    for path in shards.iterdir():
        memory.pipe_file(f"/lesions/{path.name}", path.read_bytes())
    assert everything(pool_of("memory://lesions/", tmp_path / "memory")) == lesion_jpegs
    assert len(cached(tmp_path)) == len(list(shards.glob("*.tar")))
    assert [name.decode() for name in open_store(shards).ids.tolist()] == sorted(lesion_jpegs)


def test_a_shard_is_asked_for_once_and_then_is_on_this_machine(tmp_path: Path, file_server: Any) -> None:
    for _ in range(2):
        pool = pool_of(file_server.url, tmp_path)
        for k in np.random.default_rng(0).integers(48, size=100).tolist():
            pool.read(k)
    assert len(file_server.tars()) == len(set(file_server.tars())) == len(cached(tmp_path))


@pytest.mark.parametrize("fault", ["drop", "short", "500", "wrong"])
def test_a_fault_of_the_server_is_survived(
    fault: str, tmp_path: Path, file_server: Any, lesion_jpegs: dict[str, bytes]
) -> None:
    file_server.faults = [fault] * (remote.TRIES - 1)
    pool = pool_of(file_server.url, tmp_path)
    assert pool.read(5) == lesion_jpegs[pool.id_of(5)]
    assert len(file_server.tars()) == remote.TRIES
    assert not list((tmp_path / "cache").glob("*.part"))


@pytest.mark.parametrize(
    ("fault", "says"), [("drop", "not completed"), ("500", "500"), ("wrong", "sha256 .* where the index says")]
)
def test_a_server_that_always_fails_is_one_line_and_leaves_no_shard(
    fault: str, says: str, tmp_path: Path, file_server: Any
) -> None:
    file_server.faults = [fault] * 100
    with pytest.raises(InputError, match=f"{file_server.url}/shard-0.*cannot be fetched: 5 tries.*{says}"):
        pool_of(file_server.url, tmp_path).read(0)
    assert len(file_server.tars()) == remote.TRIES
    assert not cached(tmp_path)


def test_a_damaged_shard_is_never_read(tmp_path: Path, file_server: Any, lesion_jpegs: dict[str, bytes]) -> None:
    """In the cache it is fetched anew, in a folder it is named: one byte differs, and the size does not."""
    everything(pool_of(file_server.url, tmp_path))
    for path in [*cached(tmp_path), *file_server.folder.glob("*.tar")]:
        copy = tmp_path / "near" / path.name if path.parent == file_server.folder else path
        copy.parent.mkdir(exist_ok=True)
        copy.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:])
    asked = len(file_server.tars())
    assert everything(pool_of(file_server.url, tmp_path)) == lesion_jpegs
    assert len(file_server.tars()) == 2 * asked
    (tmp_path / "near" / INDEX_NAME).write_bytes((file_server.folder / INDEX_NAME).read_bytes())
    store = open_store(tmp_path / "near")
    with pytest.raises(InputError, match=r"near/shard-0\d+.tar is damaged: sha256"):
        store.read(0)
    for path in (tmp_path / "near").glob("*.tar"):
        path.unlink()
    with pytest.raises(InputError, match=r"no such file: .*near/shard-0"):
        store.read(0)


def test_the_cache_stays_within_its_size(tmp_path: Path, file_server: Any, lesion_jpegs: dict[str, bytes]) -> None:
    sizes = sorted((path.stat().st_size for path in file_server.folder.glob("*.tar")), reverse=True)
    limit = sum(sizes[:4])
    pool = pool_of(file_server.url, tmp_path, cache_gb=limit / GB)
    for k in np.random.default_rng(1).permutation(48).tolist():
        assert pool.read(k) == lesion_jpegs[pool.id_of(k)]
        assert sum(path.stat().st_size for path in cached(tmp_path)) <= limit
    assert len(file_server.tars()) > len(sizes), "some came again"
    with pytest.raises(InputError, match=r"data\.shards\.cache_gb=.* does not hold two windows"):
        pool_of(file_server.url, tmp_path, cache_gb=(limit - 1) / GB)


def test_what_is_open_is_not_removed_and_the_rest_of_a_killed_fetch_is(tmp_path: Path, file_server: Any) -> None:
    """Room for two shards: the open one stays though it is the longest unused."""
    store = ShardStore(file_server.url, OpenShards(reading(tmp_path)))
    one, two, three = store.shards[:3]
    cache = ShardCache(tmp_path / "cache", 2 * max(shard.size_bytes for shard in store.shards[:3]))
    files = OpenShards(reading(tmp_path))
    opened = files.open(file_server.url, one)
    (tmp_path / "cache" / f"{'0' * 64}.{one.size_bytes}.part").write_bytes(b"half")
    for shard in (two, three):
        cache.get(f"{file_server.url}/{shard.name}", shard)
    assert {path.stem for path in cached(tmp_path)} == {one.sha256, three.sha256}
    assert not list((tmp_path / "cache").glob("*.part"))
    assert len(opened.read(0, one.size_bytes)) == one.size_bytes
    del opened
    files.close()
    gc.collect()
    cache.get(f"{file_server.url}/{two.name}", two)
    assert {path.stem for path in cached(tmp_path)} == {two.sha256, three.sha256}


def test_what_else_is_in_the_folder_stays_and_what_others_own_may(
    tmp_path: Path, file_server: Any, lesion_jpegs: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Room for two shards: a user's own files take none of it, and another user's shards cannot be removed."""
    others = {tmp_path / "cache" / name for name in ("imagenet.tar", "download.part", "train.zip.7.part")}
    for path in others:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x" * 100_000)
    sizes = sorted((path.stat().st_size for path in file_server.folder.glob("*.tar")), reverse=True)
    assert everything(pool_of(file_server.url, tmp_path, cache_gb=sum(sizes[:4]) / GB)) == lesion_jpegs
    assert others <= {*(tmp_path / "cache").iterdir()}
    there = len(cached(tmp_path))
    assert there < len(sizes)
    monkeypatch.setattr(shard_cache, "_removed", lambda path: False)
    assert everything(pool_of(file_server.url, tmp_path, cache_gb=sum(sizes[:4]) / GB)) == lesion_jpegs
    assert len(cached(tmp_path)) == 1 + len(sizes)


def test_a_cache_that_cannot_be_written_to_is_one_line(
    tmp_path: Path, file_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(path: Path, *_: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    pool = pool_of(file_server.url, tmp_path)
    monkeypatch.setattr(shard_cache.os, "open", refused)
    with pytest.raises(InputError, match=r"data\.shards\.cache=.*cache: .*\.lock: Permission denied; name another"):
        pool.read(0)


def test_a_file_system_that_is_full_or_has_no_locks_is_one_line_and_ends_no_thread(
    tmp_path: Path, file_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    store = ShardStore(file_server.url, OpenShards(reading(tmp_path)))
    cache = ShardCache(tmp_path / "cache", 1 << 30)
    monkeypatch.setattr(shard_cache.fcntl, "flock", refused)
    with pytest.raises(InputError, match=r"data\.shards\.cache=.*cache: .*: No locks available; name another folder"):
        cache.get(file_server.url, store.shards[0])
    cache._fetch_ahead(file_server.url, store.shards[0])
    assert cache._quiet_until > 0
    (tmp_path / "shard.tar").touch()
    assert not shard_cache._is_unread(tmp_path / "shard.tar"), "it may be read: it stays"


def test_the_environments_proxies_and_the_users_settings_of_fsspec_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _patience("https")["client_kwargs"]["trust_env"] is True
    monkeypatch.setitem(fsspec.config.conf, "https", {"client_kwargs": {"trust_env": False, "auth": "me"}})
    assert _patience("https")["client_kwargs"].items() >= {"trust_env": False, "auth": "me"}.items()
    assert _patience("https")["client_kwargs"]["timeout"].sock_read == LONGEST_SILENCE_S
    assert _patience("s3") == {}


def test_a_shard_that_is_missing_or_cut_is_named_before_anything_is_read(tmp_path: Path, shards: Path) -> None:
    shutil.copytree(shards, tmp_path / "tars")
    last = max((tmp_path / "tars").glob("*.tar"))
    data = last.read_bytes()
    last.write_bytes(data[:-512])
    with pytest.raises(
        InputError, match=rf"{last} is damaged: \d+ bytes where the index says {len(data)}; copy it again"
    ):
        open_store(tmp_path / "tars")
    last.unlink()
    with pytest.raises(InputError, match=f"no such file: {last}, which shards.json beside it names; copy it there"):
        open_store(tmp_path / "tars")


def test_a_shard_is_fetched_ahead_only_where_there_is_room(tmp_path: Path, file_server: Any) -> None:
    store = ShardStore(file_server.url, OpenShards(reading(tmp_path)))
    one, two = store.shards[:2]
    files = OpenShards(reading(tmp_path))
    opened = files.open(file_server.url, one)
    cache = ShardCache(tmp_path / "cache", one.size_bytes)
    cache.get_ahead(f"{file_server.url}/{two.name}", two)
    _join_fetches()
    assert [path.stem for path in cached(tmp_path)] == [one.sha256]
    assert opened.read(0, 1)
    files.cache.get_ahead(f"{file_server.url}/{two.name}", two)
    _join_fetches()
    assert {path.stem for path in cached(tmp_path)} == {one.sha256, two.sha256}


def _join_fetches() -> None:
    for thread in threading.enumerate():
        if thread.daemon and "_fetch_ahead" in thread.name:
            thread.join()


class Reading(Dataset[tuple[str, bytes]]):
    """The ids and bytes of a pool's images."""

    def __init__(self, pool: ImagePool) -> None:
        self.pool = pool

    def __len__(self) -> int:
        return len(self.pool)

    def __getitem__(self, k: int) -> tuple[str, bytes]:
        return self.pool.id_of(k), self.pool.read(k)


def test_workers_share_what_they_fetch(tmp_path: Path, file_server: Any, lesion_jpegs: dict[str, bytes]) -> None:
    """The parent has read from the server itself before it forks, and has a shard open."""
    pool = pool_of(file_server.url, tmp_path)
    pool.read(0)
    assert fsspec.asyn.loop == fsspec.asyn.iothread == [None], "no loop and no thread is left to be carried over"
    loader = DataLoader(Reading(pool), batch_size=4, num_workers=2, multiprocessing_context="fork", collate_fn=list)
    assert {name: data for batch in loader for name, data in batch} == lesion_jpegs
    assert len(file_server.tars()) == len(set(file_server.tars()))
    assert everything(pickle.loads(pickle.dumps(pool))) == lesion_jpegs


def test_the_next_window_is_fetched_while_this_one_is_read(tmp_path: Path, file_server: Any) -> None:
    """Only the shards of the first window are waited for, and none is fetched twice."""
    config = PoolConfig(sources={"far": file_server.url}, shards=reading(tmp_path), workers=0)
    pool = Pool(config, ImagePool(config.sources, config.shards))
    indices = pool.without(np.empty(0, np.int64))
    order = pool.order(indices, seed=0)
    assert isinstance(order, WindowedOrder)
    views = simclr_views(ViewsConfig(size=16, local_size=16))
    dataset = pool.dataset(indices, views, 0, [])
    stream = TrainingStream(order, BatchLayout(4), 0, 24, pool.images.lookahead)
    (store,) = pool.images.stores
    assert isinstance(store, ShardStore)
    waited = 0
    for draw in itertools.chain(*stream):
        waited += store.shards[store.shard[indices[draw.row]]].sha256 not in {path.stem for path in cached(tmp_path)}
        dataset[draw]
        _join_fetches()
    assert waited == 2
    assert len(file_server.tars()) == len(set(file_server.tars()))


def test_kept_images_are_read_once_whatever_becomes_of_the_cache(tmp_path: Path, file_server: Any) -> None:
    pool = pool_of(file_server.url, tmp_path)
    indices = pool.from_few_shards(np.random.default_rng(0).permutation(48), 7)
    assert len(np.unique(pool.shards()[0][indices])) == 1
    pool.keep(indices)
    first = [pool.read(k) for k in indices.tolist()]
    assert len(file_server.tars()) == 1
    for path in cached(tmp_path):
        path.unlink()
    assert [pool.read(k) for k in indices.tolist()] == first
    assert len(file_server.tars()) == 1


def test_the_order_of_a_mixed_pool_and_what_it_trains_on(
    tmp_path: Path, shards: Path, lesions: Path, file_server: Any
) -> None:
    config = PoolConfig(sources={"file": lesions, "far": file_server.url, "near": shards}, shards=reading(tmp_path))
    pool = Pool(config, ImagePool(config.sources, config.shards))
    held_out = np.array([3, 50, 100])
    trained_on = pool.without(held_out)
    assert np.array_equal(np.sort(trained_on), np.setdiff1d(np.arange(144), held_out))
    shard, source = pool.images.shards()
    assert np.all(np.diff(shard[trained_on]) >= 0)
    assert [np.count_nonzero(source == k) for k in range(3)] == [0, len(source) // 2, len(source) // 2]
    rows = pool.order(trained_on, 0).epoch(0)
    halves = [np.bincount(part // 48, minlength=3) for part in np.split(trained_on[rows][:140], 2)]
    assert all(half.min() > 14 for half in halves), "of 70, a third each"
    hashes = pool.hashes()
    index = json.loads((shards / INDEX_NAME).read_text())
    assert index["format"] == 1
    assert hashes["data.sources.far"] == hashes["data.sources.near"], "wherever they lie"
    assert hashes["data.sources.file"] != hashes["data.sources.near"], "which come in another order"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda index: index["shards"][0].update(name="../../shard.tar"), "shards.0.name"),
        (lambda index: index["shards"][0].update(sha256="../x"), "shards.0.sha256"),
        (lambda index: index["shards"][0]["ids"].__setitem__(0, "../../etc"), "shards.0.ids.0"),
        (lambda index: index["shards"][0]["offsets"].__setitem__(0, 10**9), "ends beyond"),
        (lambda index: index["shards"][0]["sizes"].pop(), "not as many offsets and sizes"),
        (lambda index: index["shards"][0]["ids"].__setitem__(0, index["shards"][0]["ids"][1]), "twice"),
        (lambda index: index.update(format=2), "format"),
        (lambda index: index.clear(), "plan"),
    ],
)
def test_an_index_that_is_none_is_one_line(
    change: Callable[[Any], None], says: str, tmp_path: Path, shards: Path
) -> None:
    index = json.loads((shards / INDEX_NAME).read_text())
    change(index)
    (tmp_path / INDEX_NAME).write_text(json.dumps(index))
    with pytest.raises(InputError, match=f"{INDEX_NAME}.*{says}.*ssl-isic shards"):
        open_store(tmp_path)


def test_a_url_that_leads_nowhere_is_one_line(tmp_path: Path, file_server: Any) -> None:
    for url, says in (
        ("s3://bucket/shards", r'needs a driver .*pip install "fsspec\[s3\]"'),
        ("nonsense://x/y", "fsspec knows no nonsense://"),
        ("http://127.0.0.1:1/x", "cannot be fetched: 5 tries"),
        ("memory://nowhere", "no such file: memory://nowhere/shards.json"),
    ):
        with pytest.raises(InputError, match=says):
            pool_of(url, tmp_path)
    file_server.folder = tmp_path
    with pytest.raises(InputError, match=rf"no such file: {file_server.url}/shards\.json; check the URL"):
        pool_of(file_server.url, tmp_path)


def test_a_url_stays_one_in_a_configuration() -> None:
    config = validate(PoolConfig, {"sources": {"a": "http://host//x/", "b": "dir//file.hdf5"}}, source="test")
    assert config.sources == {"a": "http://host//x", "b": Path("dir/file.hdf5")}
    assert config.model_dump(mode="json")["sources"] == {"a": "http://host//x", "b": "dir/file.hdf5"}
    assert validate(PoolConfig, config.model_dump(), source="test") == config
    for word in ("balance: clinic", "second_view: lesion"):
        key, value = word.split(": ")
        with pytest.raises(
            InputError, match=f"{key}={value} reads images of all shards.*copy http://host//x to a folder"
        ):
            validate(PoolConfig, {"sources": {"a": "http://host//x"}, key: value}, source="test")
    with pytest.raises(InputError, match=r"sources\.a: expected a path or a URL"):
        validate(PoolConfig, {"sources": {"a": 3}}, source="test")
