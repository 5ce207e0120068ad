"""Pretraining from a URL, as a user meets it: a run that is killed goes on to the same bits, and a server's end is one line."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from ssl_isic import embed, pretrain
from ssl_isic.data import remote
from ssl_isic.data.shard_store import GB

PATIENCE_S = 120


def words_of(run_dir: Path, source: Path | str, *more: str) -> list[str]:
    """24 steps of a tiny network, 6 an epoch."""
    run = [f"run_dir={run_dir}", f"data.sources.far={source}", f"data.shards.cache={run_dir}-cache"]
    small = ["data.shards.window=2", "backbone.model=test_resnet", "backbone.drop_path=0.3", "method.hidden_size=32"]
    loop = ["views.size=32", "loop.batch_size=8", "loop.accumulate=2", "loop.epochs=4", "loop.log_every=1"]
    return [*run, *small, *loop, "loop.save_every=3", "seed=5", *more]


def weights(run_dir: Path) -> dict[str, torch.Tensor]:
    return load_file(run_dir / "backbone" / "model.safetensors")


@pytest.mark.slow
def test_a_run_from_a_url_that_is_killed_goes_on_to_the_same_bits(
    tmp_path: Path, shards: Path, file_server: Any
) -> None:
    """With a server that fails now and then, a cache of two windows, and other workers; beside it a run from the folder."""
    room = sum(sorted((path.stat().st_size for path in shards.glob("*.tar")), reverse=True)[:4])
    killed = words_of(tmp_path / "killed", file_server.url, f"data.shards.cache_gb={room / GB}")
    file_server.faults = ["", "drop", "", "500", "wrong"]
    process = subprocess.Popen(
        [sys.executable, "-m", "ssl_isic.cli", "pretrain", *killed, "data.workers=2"],
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    log, deadline = tmp_path / "killed" / "metrics.jsonl", time.monotonic() + PATIENCE_S
    while not log.exists() or log.read_text().count("\n") < 8:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (tmp_path / "killed" / "backbone").exists()
    assert pretrain.main([*killed, "data.workers=1"]) == 0
    assert pretrain.main(words_of(tmp_path / "quiet", file_server.url, "data.workers=0")) == 0
    assert pretrain.main(words_of(tmp_path / "near", shards, "data.workers=0")) == 0
    quiet = weights(tmp_path / "quiet")
    for name in ("killed", "near"):
        other = weights(tmp_path / name)
        assert other.keys() == quiet.keys()
        assert [key for key, value in other.items() if not torch.equal(value, quiet[key])] == []
    assert sum(path.stat().st_size for path in (tmp_path / "killed-cache").glob("*.tar")) <= room
    inputs = json.loads((tmp_path / "quiet" / "provenance.json").read_text())["inputs"]
    index = hashlib.sha256((shards / "shards.json").read_bytes()).hexdigest()
    assert inputs["data.sources.far"] == f"48 ids, sha256 of their shards {index}"


@pytest.mark.parametrize("workers", [0, 1])
def test_a_server_that_fails_for_good_is_one_line(
    workers: int, tmp_path: Path, file_server: Any, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first shard comes, for a look at the images' size; the worker, where there is one, is refused the others."""
    monkeypatch.setattr(remote, "FIRST_WAIT_S", 0.01)
    file_server.faults = ["", *["500"] * 200]
    assert pretrain.main(words_of(tmp_path / "run", file_server.url, f"data.workers={workers}")) == 2
    (line,) = [line for line in capfd.readouterr().err.splitlines() if line.startswith("ssl-isic:")]
    assert f"{file_server.url}/shard-0" in line
    assert "look at the server, then run it again" in line


def test_features_of_shards_are_those_of_the_file(tmp_path: Path, shards: Path, lesions: Path) -> None:
    words = ["backbone.model=test_vit", "image_size=32", "workers=0"]
    for name, images in (("shards", shards), ("file", lesions)):
        assert embed.main([*words, f"images={images}", f"out={tmp_path / name}.npy"]) == 0
    assert np.array_equal(np.load(tmp_path / "shards.npy"), np.load(tmp_path / "file.npy"))
