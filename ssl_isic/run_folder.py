"""A run's folder: its configuration, where it came from, and its metrics."""

import json
import platform
import subprocess
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ssl_isic.config import Config, dump_yaml, flat, load_yaml
from ssl_isic.errors import InputError
from ssl_isic.files import atomic_write, holds_work, write_json

PACKAGES = ("ssl-isic", "torch", "timm", "lightly", "albumentations", "accelerate", "numpy", "h5py", "simplejpeg")
PROVENANCE = "provenance.json"
MAY_CHANGE = (
    "data.workers",
    "data.start_method",
    "data.prefetch",
    "data.cache",
    "data.cache_gb",
    "data.shards.cache",
    "data.shards.cache_gb",
    "loop.log_every",
    "loop.save_every",
    "loop.keep_checkpoints",
    "loop.trackers",
    "monitor.collapse",
)


WHAT_IS_TRAINED = ("method.name", "backbone.model")
"""Settings that others follow from: where they differ, they are named first."""


def open_run(folder: Path, config: Config, inputs: Mapping[str, str], may_change: Sequence[str] = ()) -> None:
    """Make `folder` a run of `config`, or check that it already is one, on the same inputs.

    `inputs` are hashes of what is read, by the key of the configuration that says where it lies: it may lie elsewhere when a
    run goes on, but has to be the same. Keys of `MAY_CHANGE` and `may_change` may differ. A run that
    saved nothing to go on from may be replaced.

    Raises:
        InputError: the folder holds a run with other settings, or on other images or folds.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"run_dir: cannot write {folder} ({error.strerror}); choose another place") from None
    resolved = folder / "config.yaml"
    there, here = flat(load_yaml(resolved)) if resolved.exists() else {}, flat(config.model_dump(mode="json"))
    if there and "run_dir" not in there:
        raise InputError(
            f"{folder} holds no run but something else, with a config.yaml of its own; set another run_dir"
        )
    if there and holds_work(folder):
        before = _inputs_of(folder)
        for key in sorted(there.keys() | here.keys(), key=lambda key: (key not in WHAT_IS_TRAINED, key)):
            may_differ = {"run_dir", *may_change} | (before.keys() & inputs.keys())
            if key in may_differ or key.endswith(MAY_CHANGE):
                continue
            if not _alike(there.get(key), here.get(key)):
                raise InputError(
                    f"{folder} holds a run with {key}={there.get(key)}, this one has {key}={here.get(key)}; "
                    "set another run_dir, or remove that one"
                )
        _check_inputs(folder, before, inputs)
    with atomic_write(resolved) as temporary:
        temporary.write_text(dump_yaml(config), encoding="utf-8")


def write_provenance(folder: Path, seed: int, world_size: int, inputs: Mapping[str, str]) -> None:
    """Write `provenance.json`: versions, commit, seed, world size, and hashes of the inputs by key."""
    write_json(
        folder / PROVENANCE,
        {
            "versions": versions(),
            "python": platform.python_version(),
            "machine": platform.processor() or platform.machine(),
            "commit": commit(),
            "seed": seed,
            "world_size": world_size,
            "inputs": dict(inputs),
        },
    )


def _alike(there: Any, here: Any) -> bool:
    """Whether two values are one, or two ways to write the place of one file or folder."""
    if isinstance(there, str) and isinstance(here, str):
        return Path(there).resolve() == Path(here).resolve()
    return bool(there == here)


def _inputs_of(folder: Path) -> dict[str, str]:
    provenance = folder / PROVENANCE
    there: dict[str, str] = json.loads(provenance.read_text(encoding="utf-8"))["inputs"] if provenance.exists() else {}
    return there


def _check_inputs(folder: Path, before: Mapping[str, str], inputs: Mapping[str, str]) -> None:
    for name in sorted(before.keys() & inputs.keys()):
        if before[name] != inputs[name]:
            raise InputError(
                f"{folder} holds a run on other data: {name} was {before[name]}, and is {inputs[name]}; "
                "put back what was there, or set another run_dir"
            )


class MetricsLog:
    """`metrics.jsonl`: one JSON object a line, each with its `step`; rows after `step` are dropped when a run resumes, and all
    of them when it begins at 0."""

    def __init__(self, path: Path, step: int) -> None:
        self.path = path
        rows = read_metrics(path) if path.exists() else []
        with atomic_write(path) as temporary:
            temporary.write_text("".join(_line(row) for row in rows if 0 < step >= row["step"]), encoding="utf-8")

    def append(self, row: Mapping[str, float | str]) -> None:
        """Add one row and flush it."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(_line(row))


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The rows of a `metrics.jsonl`, objects with a whole `step`; a last line cut short by a kill is left out.

    Raises:
        InputError: a file that cannot be read, a line that is no such row.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")[:-1]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as a run's metrics: {error}") from None
    return [_metrics_row(line, f"{path}, line {number}") for number, line in enumerate(lines, 1) if line.strip()]


def _metrics_row(line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise InputError(f"{where}: not JSON ({error.msg}); take the line out") from None
    if not isinstance(row, dict) or type(row.get("step")) is not int:
        raise InputError(f"{where}: not a JSON object with a whole number `step`; take the line out")
    return row


def _line(row: Mapping[str, float | str]) -> str:
    return json.dumps(row) + "\n"


def versions() -> dict[str, str]:
    """Of this library and of those that its results depend on."""
    return {name: version(name) for name in PACKAGES}


def commit() -> str | None:
    """The commit of this library, where it is a checkout."""
    root = Path(__file__).resolve().parents[1]
    words: Sequence[str] = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        return subprocess.run(words, capture_output=True, text=True, check=True, timeout=5).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
