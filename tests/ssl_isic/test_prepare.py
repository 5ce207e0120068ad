"""`ssl-isic prepare` as a user meets it: bad input is one line, a killed run goes on, and nothing is half-written."""

import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd
import pytest

from ssl_isic import prepare as entry
from ssl_isic.data.images import open_store

Jpegs = Mapping[str, bytes]
WriteHdf5 = Callable[[Path, Mapping[str, bytes]], Path]
SLOWLY = """
import sys, time
from ssl_isic.data.preparing import preparing
from ssl_isic.data.preparing.spool import Spool
from ssl_isic.prepare import main
preparing.PART_IMAGES = 4
add = Spool.add
Spool.add = lambda spool, images: (add(spool, images), time.sleep(0.1))[0]
if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def words(tmp_path: Path, lesions: Path, lesion_jpegs: Jpegs) -> list[str]:
    """48 images, a table of them, and where to write."""
    ids = list(lesion_jpegs)
    table = pd.DataFrame({"isic_id": ids, "dx": ["nv", "mel"] * 24, "sex": ["male"] * 47 + ["f"]})
    table.to_csv(tmp_path / "table.csv", index=False)
    (tmp_path / "source.yaml").write_text("columns:\n  diagnosis: dx\n  sex: sex\n")
    out = [f"out={tmp_path / 'out' / 'pool'}", "workers=0"]
    return ["--config", str(tmp_path / "source.yaml"), f"images={lesions}", f"tables={tmp_path / 'table.csv'}", *out]


def written(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    """The error, which is the last line after the progress bar."""
    return capsys.readouterr().err.splitlines()[-1]


def test_a_pool_a_table_and_a_report(
    tmp_path: Path, words: list[str], lesion_jpegs: Jpegs, capsys: pytest.CaptureFixture[str]
) -> None:
    assert entry.main(words) == 0
    shown = capsys.readouterr().out
    assert f"48 images are in {tmp_path / 'out' / 'pool.hdf5'}, 48 rows in" in shown
    assert "diagnosis: MEL 24, NV 24" in shown
    assert "sex: 1 rows stay empty, with values that columns.sex.values does not name: f 1" in shown
    store = open_store(tmp_path / "out" / "pool.hdf5")
    assert {name.decode(): store.read(k) for k, name in enumerate(store.ids)} == lesion_jpegs
    report = json.loads((tmp_path / "out" / "pool.json").read_text())
    assert (report["images"], report["rows"], report["changed"], report["unreadable"]) == (48, 48, {}, {})
    assert report["columns"]["sex"]["unknown"] == {"f": 1}
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["pool.csv", "pool.hdf5", "pool.json"]


def test_processes_write_the_same_bytes_as_one(tmp_path: Path, words: list[str]) -> None:
    for workers in (0, 2):
        assert entry.main([*words, f"out={tmp_path / str(workers)}/pool", f"workers={workers}", "longest_px=32"]) == 0
    assert written(tmp_path / "0") == written(tmp_path / "2")
    assert json.loads((tmp_path / "2" / "pool.json").read_text())["changed"] == {"shrunk": 48}


def test_trailing_zeros_survive(tmp_path: Path, lesion_jpegs: Jpegs) -> None:
    data = next(iter(lesion_jpegs.values())) + b"\x00\x00\x00"
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "A.jpg").write_bytes(data)
    assert entry.main([f"images={tmp_path / 'in'}", f"out={tmp_path / 'pool.hdf5'}", "workers=0"]) == 0
    assert open_store(tmp_path / "pool.hdf5").read(0) == data
    assert not (tmp_path / "pool.csv").exists(), "without a table there is none to write"


def test_what_does_not_match_is_said(
    tmp_path: Path, words: list[str], lesion_jpegs: Jpegs, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = list(lesion_jpegs)
    pd.DataFrame({"isic_id": [*ids[3:], "ISIC_X"], "dx": "lentigo"}).to_csv(tmp_path / "table.csv", index=False)
    assert entry.main(words) == 0
    shown = capsys.readouterr().out
    assert "1 rows have no image and are left out: ISIC_X" in shown
    assert f"3 images have no row: {', '.join(ids[:3])}" in shown
    assert "diagnosis: 46 rows stay empty, with values that columns.diagnosis.values does not name: lentigo 46" in shown
    assert "no table says anything of diagnosis (dx), sex (sex)" in shown
    assert pd.read_csv(tmp_path / "out" / "pool.csv")["isic_id"].tolist() == ids[3:]
    assert len(open_store(tmp_path / "out" / "pool.hdf5").ids) == 48
    assert entry.main([*words, f"out={tmp_path / 'fewer'}", "only_in_tables=true"]) == 0
    assert len(open_store(tmp_path / "fewer.hdf5").ids) == 45


def test_unreadable_images_are_left_out_or_refused(
    tmp_path: Path, words: list[str], lesion_jpegs: Jpegs, write_hdf5: WriteHdf5, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = list(lesion_jpegs)
    images = {**lesion_jpegs, ids[2]: lesion_jpegs[ids[2]][:200], ids[40]: b"no image"}
    words[2] = f"images={write_hdf5(tmp_path / 'damaged.hdf5', images)}"
    for _ in range(2):  # the second finds all images treated
        assert entry.main(words) == 2
        error = one_line(capsys)
        assert "2 of the first 48 images do not decode, more than max_unreadable=0.01 allows" in error
        assert ids[2] in error
    assert not list((tmp_path / "out").glob("pool.[hcj]*"))
    assert entry.main([*words, "max_unreadable=0.1"]) == 0
    assert f"2 images do not decode and are left out: {ids[2]} (" in capsys.readouterr().out
    left = [name for name in ids if name not in (ids[2], ids[40])]
    assert open_store(tmp_path / "out" / "pool.hdf5").ids.tolist() == [name.encode() for name in left]
    assert pd.read_csv(tmp_path / "out" / "pool.csv")["isic_id"].tolist() == left
    assert set(json.loads((tmp_path / "out" / "pool.json").read_text())["unreadable"]) == {ids[2], ids[40]}


def test_a_folder_whose_files_were_mended_is_another_source(
    tmp_path: Path, words: list[str], lesion_jpegs: Jpegs, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "loose"
    folder.mkdir()
    for name, data in lesion_jpegs.items():
        (folder / f"{name}.jpg").write_bytes(data)
    broken = folder / f"{max(lesion_jpegs)}.jpg"
    broken.write_bytes(lesion_jpegs[broken.stem][:300])
    words = [*words, f"images={folder}", "max_unreadable=0.1"]
    assert entry.main(words) == 0
    assert "1 images do not decode and are left out" in capsys.readouterr().out
    broken.write_bytes(lesion_jpegs[broken.stem])
    assert entry.main(words) == 2
    assert str(folder) in one_line(capsys)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (["images=nowhere.zip"], "there is no file nowhere.zip; check images"),
        (["images=[]"], "images: list should have at least 1 item"),
        (["tables=nowhere.csv"], "there is no file nowhere.csv"),
        (["id.column=x"], "unknown key id.column; did you mean columns?"),
        (["columns.diagnoses=dx"], "unknown key columns.diagnoses; did you mean diagnosis?"),
        (["columns.diagnosis={columns: dx, values: {nv: NEVUS}}"], "diagnosis: NEVUS is none of MEL, NV, BCC"),
        (["columns.diagnosis={columns: dx, one_hot: {a: NV}}"], "set columns or one_hot, not both"),
        (["columns.sex={}"], "columns.sex: it needs columns, one_hot or otherwise"),
        (["id.columns=image"], "has no column image; It has: isic_id, dx, sex"),
        (["id.pattern=("], "id.pattern: no regular expression, missing )"),
        (
            ["id.pattern=ISIC_(0{6}1)", "id.prefix=P_"],
            "isic_id is 'ISIC_0000000', not of the form ISIC_(0{6}1) in row 2",
        ),
        (["longest_px=64", "shortest_px=64"], "set longest_px or shortest_px, not both"),
        (["clean=[hairs]"], "no cleaning is called hairs; did you mean hair?"),
        (["quality=0"], "quality: input should be greater than or equal to 1"),
    ],
)
def test_bad_input_is_one_line(
    tmp_path: Path, words: list[str], change: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert entry.main([*words, *change]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_bad_files_are_one_line(
    tmp_path: Path, words: list[str], lesion_jpegs: Jpegs, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = list(lesion_jpegs)
    (tmp_path / "other.csv").write_text("isic_id,dx\nX_1,nv\n")
    (tmp_path / "twice.csv").write_text(f"isic_id,dx\n{ids[0]},nv\n{ids[1]},nv\n{ids[0]},mel\n")
    (tmp_path / "zip.zip").write_bytes(b"PK\x03\x04 no zip")
    with zipfile.ZipFile(tmp_path / "same.zip", "w") as archive:
        archive.writestr(f"a/{ids[0]}.jpg", b"a")
        archive.writestr(f"b/{ids[0]}.jpg", b"b")
    for change, says in (
        (f"tables={tmp_path / 'other.csv'}", "none of the 1 rows is of one of the 48 images: rows are called X_1"),
        (f"tables={tmp_path / 'twice.csv'}", f"isic_id {ids[0]} is in rows 2 and 4 (the only one)"),
        (f"images={tmp_path / 'zip.zip'}", "is not a readable zip"),
        (f"images={tmp_path / 'same.zip'}", f"have the same id {ids[0]}"),
        (f"images={tmp_path / 'other.csv'}", "is not a readable HDF5 file"),
        (f"out={tmp_path / 'other.csv' / 'pool'}", "other.csv"),
    ):
        assert entry.main([*words, change]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert says in error
    assert not (tmp_path / "out").exists()


def test_what_is_finished_stays_and_other_settings_need_another_name(
    tmp_path: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert entry.main(words) == 0
    shown = capsys.readouterr().out
    before = (tmp_path / "out" / "pool.hdf5").stat()
    assert entry.main([*words, "workers=1"]) == 0
    assert capsys.readouterr().out == shown
    assert (tmp_path / "out" / "pool.hdf5").stat().st_mtime_ns == before.st_mtime_ns
    assert entry.main([*words, "longest_px=32"]) == 2
    assert "longest_px=None, this one has longest_px=32; name another out" in one_line(capsys)
    whole = written(tmp_path / "out")
    os.truncate(tmp_path / "out" / "pool.hdf5", 1000)
    assert entry.main(words) == 0
    assert written(tmp_path / "out") == whole, "what was damaged since is written again"
    (tmp_path / "out" / "pool.json").unlink()
    assert entry.main(words) == 2
    assert "pool.hdf5 is there already, and not of a finished prepare" in one_line(capsys)


def killed(words: list[str], out: Path, number: signal.Signals, parts: int) -> int:
    """Start a slow run, and stop it after it has written `parts` parts of 4 images; returns its exit code."""
    process = subprocess.Popen(
        [sys.executable, "-c", SLOWLY, *words], stderr=subprocess.DEVNULL, start_new_session=True
    )
    deadline = time.monotonic() + 60
    while not (out / "pool.unfinished" / f"part-{parts - 1:06d}.bin").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(number)
    return process.wait()


@pytest.mark.slow
def test_a_run_that_is_killed_goes_on_to_the_same_files(
    tmp_path: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert entry.main([*words, f"out={tmp_path / 'whole' / 'pool'}"]) == 0
    assert killed(words, out, signal.SIGKILL, parts=3) == -signal.SIGKILL
    assert [path.name for path in out.iterdir()] == ["pool.unfinished"]
    kept = (out / "pool.unfinished" / "part-000000.bin").stat().st_ino
    (out / "pool.unfinished" / "part-000002.bin").write_bytes(b"damaged meanwhile")
    assert entry.main([*words, "quality=50"]) == 2
    assert "unfinished is of an unfinished prepare with quality=95, this one has quality=50" in one_line(capsys)
    assert (out / "pool.unfinished" / "part-000000.bin").stat().st_ino == kept
    assert killed(words, out, signal.SIGINT, parts=5) == 130
    assert entry.main(words) == 0
    assert written(out) == written(tmp_path / "whole")


@pytest.mark.slow
def test_workers_end_with_a_run_that_is_killed(tmp_path: Path, words: list[str]) -> None:
    run = subprocess.Popen(
        [sys.executable, "-c", SLOWLY, *words, "workers=2"], stderr=subprocess.DEVNULL, start_new_session=True
    )
    deadline = time.monotonic() + 60
    while not (tmp_path / "out" / "pool.unfinished" / "part-000000.bin").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    run.kill()
    run.wait()
    while True:
        try:
            os.killpg(run.pid, 0)
        except ProcessLookupError:
            break
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_two_runs_do_not_write_to_one_place(
    tmp_path: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    from ssl_isic.data.preparing.spool import only_writer

    with only_writer(tmp_path / "out" / "pool.unfinished"):
        assert entry.main(words) == 2
    assert "another prepare is writing to" in one_line(capsys)
    assert entry.main(words) == 0


def test_a_disk_that_is_too_small_is_named_before_the_file_is_begun(
    tmp_path: Path, words: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as small:
        small.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000}))
        assert entry.main(words) == 2
    assert "the disk is full while writing" in one_line(capsys)
    assert not (tmp_path / "out" / "pool.hdf5").exists()
    assert entry.main(words) == 0
