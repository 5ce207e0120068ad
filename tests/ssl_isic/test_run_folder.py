"""A run's folder belongs to one configuration, and its metrics hold each step once."""

import json
from pathlib import Path

import pytest

from ssl_isic.config import validate
from ssl_isic.errors import InputError
from ssl_isic.pretraining import PretrainConfig
from ssl_isic.run_folder import MetricsLog, open_run, read_metrics, write_provenance

INPUTS = {"data.sources.train": "48 ids, sha256 ab"}


def config_of(run_dir: Path, **changes: object) -> PretrainConfig:
    tree = {"run_dir": run_dir, "data": {"sources": {"train": "a.hdf5"}}, **changes}
    return validate(PretrainConfig, tree, source="test")


def save_weights(run_dir: Path) -> None:
    (run_dir / "checkpoints" / "step-000000001").mkdir(parents=True)
    (run_dir / "checkpoints" / "step-000000001" / "model.safetensors").touch()


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"seed": 1}, "seed=0, this one has seed=1"),
        ({"optim": {"lr": 1.0}}, "optim.lr=0.0005"),
        ({"method": {"name": "dino"}}, "method.name=simclr, this one has method.name=dino"),
        ({"backbone": {"model": "resnet34", "drop_path": 0.1}}, "backbone.model="),
        ({"loop": {"batch_size": 8}}, "loop.batch_size=256"),
        ({"data": {"sources": {"train": "b.hdf5"}}}, "data.sources.train=a.hdf5"),
    ],
)
def test_another_setting_in_the_same_folder_is_refused(changes: dict[str, object], key: str, tmp_path: Path) -> None:
    open_run(tmp_path, config_of(tmp_path), INPUTS)
    save_weights(tmp_path)
    before = (tmp_path / "config.yaml").read_text()
    with pytest.raises(InputError, match=r"set another run_dir") as caught:
        open_run(tmp_path, config_of(tmp_path, **changes), INPUTS)
    assert key in str(caught.value)
    assert (tmp_path / "config.yaml").read_text() == before


def test_other_images_under_the_same_name_are_refused(tmp_path: Path) -> None:
    open_run(tmp_path, config_of(tmp_path), INPUTS)
    write_provenance(tmp_path, seed=0, world_size=1, inputs=INPUTS)
    open_run(tmp_path, config_of(tmp_path), {"data.sources.train": "50 ids, sha256 cd"})
    save_weights(tmp_path)
    with pytest.raises(
        InputError, match=r"\.train was 48 ids, sha256 ab, and is 50 ids, sha256 cd; put back"
    ) as caught:
        open_run(tmp_path, config_of(tmp_path), {"data.sources.train": "50 ids, sha256 cd"})
    assert str(tmp_path) in str(caught.value)
    open_run(tmp_path, config_of(tmp_path), INPUTS)


def test_a_run_that_saved_no_weights_may_be_replaced(tmp_path: Path) -> None:
    open_run(tmp_path, config_of(tmp_path), INPUTS)
    open_run(tmp_path, config_of(tmp_path, seed=7), INPUTS)
    assert "seed: 7" in (tmp_path / "config.yaml").read_text()


def test_a_folder_of_something_else_is_no_run(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("backbones: {a: b}\nout: here\n")
    with pytest.raises(InputError, match=f"{tmp_path} holds no run but something else.*set another run_dir"):
        open_run(tmp_path, config_of(tmp_path), INPUTS)
    assert "backbones" in (tmp_path / "config.yaml").read_text()


def test_what_does_not_change_the_weights_may_change(tmp_path: Path) -> None:
    open_run(tmp_path, config_of(tmp_path), INPUTS)
    save_weights(tmp_path)
    data = {"sources": {"train": "a.hdf5"}, "workers": 7, "start_method": "spawn", "prefetch": 2}
    data |= {"cache": "ram", "cache_gb": 3.5}
    loop = {"log_every": 3, "save_every": 9, "keep_checkpoints": 1, "trackers": ["tensorboard"]}
    open_run(tmp_path, config_of(tmp_path, data=data, loop=loop), INPUTS)
    assert "workers: 7" in (tmp_path / "config.yaml").read_text()


def test_a_file_may_be_written_in_another_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    open_run(tmp_path / "run", config_of(tmp_path / "run"), INPUTS)
    save_weights(tmp_path / "run")
    whole = str(tmp_path / "a.hdf5")
    open_run(tmp_path / "run", config_of(tmp_path / "run", data={"sources": {"train": whole}}), INPUTS)
    assert f"train: {whole}" in (tmp_path / "run" / "config.yaml").read_text()


def test_a_run_goes_on_where_its_files_lie_elsewhere_and_are_the_same(tmp_path: Path) -> None:
    open_run(tmp_path, config_of(tmp_path), INPUTS)
    save_weights(tmp_path)
    moved = config_of(tmp_path, data={"sources": {"train": "elsewhere/a.hdf5"}})
    with pytest.raises(InputError, match=r"data\.sources\.train=a\.hdf5"):
        open_run(tmp_path, moved, INPUTS)  # nothing says what was read
    write_provenance(tmp_path, seed=0, world_size=1, inputs=INPUTS)
    with pytest.raises(InputError, match=r"data\.sources\.train was 48 ids, sha256 ab, and is 48 ids, sha256 ef"):
        open_run(tmp_path, moved, {"data.sources.train": "48 ids, sha256 ef"})
    open_run(tmp_path, moved, INPUTS)
    assert "train: elsewhere/a.hdf5" in (tmp_path / "config.yaml").read_text()
    with pytest.raises(InputError, match="seed=0, this one has seed=1"):
        open_run(tmp_path, config_of(tmp_path, seed=1, data={"sources": {"train": "b.hdf5"}}), INPUTS)


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(InputError, match=r"run_dir: cannot write .*; choose another place"):
            open_run(folder, config_of(folder), INPUTS)


def test_a_run_that_was_moved_goes_on(tmp_path: Path) -> None:
    open_run(tmp_path / "old", config_of(tmp_path / "old"), INPUTS)
    save_weights(tmp_path / "old")
    (tmp_path / "old").rename(tmp_path / "new")
    open_run(tmp_path / "new", config_of(tmp_path / "new"), INPUTS)
    assert str(tmp_path / "new") in (tmp_path / "new" / "config.yaml").read_text()


def test_metrics_after_the_step_and_a_cut_line_are_dropped_on_resume(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    log = MetricsLog(path, step=0)
    for step in (2, 4, 6):
        log.append({"step": step, "loss": step / 3})
    with path.open("a") as file:
        file.write('{"step": 8, "lo')
    assert [row["step"] for row in read_metrics(path)] == [2, 4, 6]
    resumed = MetricsLog(path, step=4)
    resumed.append({"step": 6, "loss": 2.5})
    expected = [{"step": 2, "loss": 2 / 3}, {"step": 4, "loss": 4 / 3}, {"step": 6, "loss": 2.5}]
    assert [json.loads(line) for line in path.read_text().splitlines()] == expected


@pytest.mark.parametrize("line", ['{"step": 3, "lo', "[1, 2]", '{"loss": 1.0}', '{"step": true}'])
def test_a_line_that_is_no_row_of_metrics_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "loss": 2.0}\n\n' + line + "\n")
    with pytest.raises(InputError, match=r"metrics\.jsonl, line 3: not .*; take the line out"):
        read_metrics(path)


def test_provenance_names_versions_and_inputs(tmp_path: Path) -> None:
    write_provenance(tmp_path, seed=3, world_size=2, inputs={"train": "48 ids"})
    there = json.loads((tmp_path / "provenance.json").read_text())
    assert (there["seed"], there["world_size"], there["inputs"]) == (3, 2, {"train": "48 ids"})
    assert {"torch", "timm", "lightly", "accelerate"} <= there["versions"].keys()


def test_a_run_that_begins_anew_has_no_rows_of_the_one_before(tmp_path: Path) -> None:
    """That one was killed before its first checkpoint, but after its look at the network it started from."""
    path = tmp_path / "metrics.jsonl"
    MetricsLog(path, step=0).append({"step": 0, "held_out_rankme": 3.0})
    assert len(read_metrics(path)) == 1
    assert len(read_metrics(MetricsLog(path, step=0).path)) == 0
