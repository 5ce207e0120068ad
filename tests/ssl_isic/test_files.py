"""A file is the old one or the new one, never half of either, and no temporary name stays."""

import errno
import json
import os
import resource
from pathlib import Path

import pytest

from ssl_isic.errors import InputError
from ssl_isic.files import atomic_write, write_json


def test_the_new_file_replaces_the_old_at_the_end_of_the_block(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "a.csv"
    with atomic_write(path) as temporary:
        temporary.write_text("old")
    with atomic_write(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
        assert (temporary.parent, temporary.suffix) == (path.parent, path.suffix)
    assert path.read_text() == "new"
    assert os.listdir(path.parent) == ["a.csv"]


def test_a_written_file_is_as_readable_as_any_other(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    with atomic_write(tmp_path / "atomic") as temporary:
        temporary.write_text("x")
    assert (tmp_path / "atomic").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt])
def test_a_failing_block_leaves_the_old_file(tmp_path: Path, failure: type[BaseException]) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def write_half() -> None:
        with atomic_write(path) as temporary:
            temporary.write_text("half")
            raise failure

    with pytest.raises(failure):
        write_half()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_write_that_does_not_fit_leaves_the_old_file_and_names_it(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))  # stands in for a full disk
    try:
        with pytest.raises(OSError, match="File too large") as caught, atomic_write(path) as temporary:
            temporary.write_bytes(bytes(100_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.errno == errno.EFBIG
    assert caught.value.filename == str(path)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_disk_full_at_the_flush_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"), atomic_write(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_place_that_cannot_be_written_is_the_users_to_mend(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="it is a folder; name a file"), atomic_write(tmp_path):
        pass
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"cannot write .*file/a.txt: .*; choose another place"):
        write_json(tmp_path / "file" / "a.txt", {})


def test_json_reads_back_and_nan_is_refused_before_writing(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    tree = {"pauc": 0.1 + 0.2, "ids": ["ä", None], "n": {"a": 1}}
    write_json(path, tree)
    assert json.loads(path.read_text(encoding="utf-8")) == tree
    with pytest.raises(ValueError, match="Out of range float"):
        write_json(path, {"pauc": float("nan")})
    assert json.loads(path.read_text(encoding="utf-8")) == tree
