"""Weights as a folder as timm writes it, here or on the Hugging Face hub, a .safetensors file, or a file of torch's tensors."""

import json
import sys
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import timm
import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ssl_isic.errors import InputError
from ssl_isic.files import sha256_of

KEY = "backbone.weights"
TIMM = "timm"
"""In place of a folder or file: the weights that timm has for the architecture."""
HUB = "hf-hub:"
FILES = ("model.safetensors", "pytorch_model.bin")
"""What timm calls the weights in a folder."""
WRAPPERS = ("state_dict", "model")
"""Under which projects keep the weights in a checkpoint."""


@cache
def on_this_machine(weights: str) -> Path:
    """Where `weights` are: a path, or for hf-hub:OWNER/NAME or hf-hub:OWNER/NAME@REVISION the folder to which they are fetched.

    What was fetched before is not fetched again, and there without a network.

    Raises:
        InputError: the hub has none of that name or revision, or cannot be reached.
    """
    if not weights.startswith(HUB):
        return Path(weights)
    repository, _, revision = weights.removeprefix(HUB).partition("@")
    try:
        for name in FILES:
            folder = Path(
                snapshot_download(repository, revision=revision or None, allow_patterns=["config.json", name])
            )
            if (folder / name).is_file():
                break
    except LocalEntryNotFoundError:
        raise InputError(
            f"{KEY}: {weights} was not fetched before, and the hub cannot be reached; give a folder of them"
        ) from None
    except RepositoryNotFoundError:
        raise InputError(f"{KEY}: the hub has no {repository} that may be read; check OWNER/NAME, or log in") from None
    except RevisionNotFoundError:
        raise InputError(
            f"{KEY}: {repository} has no revision {revision} on the hub; check it, or leave it out"
        ) from None
    except (EntryNotFoundError, OSError, ValueError) as error:
        # the server's trouble; a full disk; no name of a repository
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{KEY}: {weights} cannot be fetched: {reason}") from None
    return folder


def read_weights(weights: str) -> dict[str, Tensor]:
    """The tensors of a folder or file, by name; from a checkpoint, those that it holds under one of `WRAPPERS`.

    Files of torch's are read with `weights_only`: nothing in them is run.

    Raises:
        InputError: no such file; one that is damaged, or holds more than tensors; as `on_this_machine`.
    """
    file = _file_of(weights)
    if file.suffix in (".pth", ".pt", ".bin"):
        return _read_torch(file)
    try:
        return load_file(file)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{KEY}: {file} is not a safetensors file ({error})") from None


def weights_hash(weights: str) -> str:
    """The SHA-256 of the file that a folder or file comes to, and how its pixels are normalised: the same wherever it lies.

    Raises:
        InputError: as `read_weights` for a file that is not there, and `pixel_statistics`.
    """
    statistics = [f"{name} {value}" for name, value in pixel_statistics(weights).items()]
    return " ".join([f"sha256 {sha256_of(_file_of(weights))}", *statistics])


def folder_settings(weights: str) -> dict[str, Any]:
    """What the config.json of a folder holds, as timm writes it; nothing where `weights` is a file, or has none.

    Raises:
        InputError: no such file or folder, a config.json that is not timm's, or a folder that is a whole run; as
            `on_this_machine`.
    """
    folder = on_this_machine(weights)
    if folder.is_file():
        return {}
    try:
        settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        _refuse_missing(folder)
        return {}
    except (OSError, ValueError) as error:
        raise InputError(f"{KEY}: cannot read {folder / 'config.json'}: {error}") from None
    if not isinstance(settings, dict) or not isinstance(settings.get("pretrained_cfg"), dict):
        raise InputError(f"{KEY}: {folder / 'config.json'} is not timm's: it has no pretrained_cfg")
    return settings


def pixel_statistics(weights: str) -> dict[str, tuple[float, ...]]:
    """`mean` and `std` of the pixels that the weights of a folder expect, as far as its config.json says them.

    Raises:
        InputError: as `folder_settings`; one that is not three numbers.
    """
    told = folder_settings(weights).get("pretrained_cfg", {})
    statistics = dict[str, tuple[float, ...]]()
    for key in ("mean", "std"):
        try:
            values = tuple(float(value) for value in told.get(key, ()))
        except (TypeError, ValueError):
            values = (0.0,)
        if key in told and (len(values) != 3 or (key == "std" and min(values) <= 0)):
            raise InputError(
                f"{KEY}: {key} in {weights}/config.json is {told[key]!r}, not three numbers, one a channel"
            )
        if values:
            statistics[key] = values
    return statistics


def misfit(state: dict[str, Tensor], model: nn.Module) -> str:
    """Why `state` cannot be the weights of `model`, a timm network without a classifier; nothing where it can.

    What timm resizes for `model`, such as most position embeddings, may be of another size.
    """
    own = {key: value.shape for key, value in model.state_dict().items()}
    state = _as_timm_names_them(state, model)
    missing = sorted(own.keys() - state.keys())
    if missing:
        return f"it lacks {missing[0]}" + (f" and {len(missing) - 1} more" if len(missing) > 1 else "")
    other = [key for key in own if own[key] != state[key].shape]
    return f"its {other[0]} has another shape" if other else ""


def _file_of(weights: str) -> Path:
    path = on_this_machine(weights)
    there = [path / name for name in FILES if (path / name).is_file()] if path.is_dir() else [path]
    file = there[0] if there else path / FILES[0]
    if not file.is_file():
        if path.is_dir():
            _refuse_missing(path)
        raise InputError(
            f"{KEY}: no such file: {file}; give a .safetensors, .pth, .pt or .bin file or a folder that holds one"
        )
    return file


def _read_torch(file: Path) -> dict[str, Tensor]:
    try:
        with warnings.catch_warnings(action="ignore"):  # of odd pickles, which are then refused or turn out well
            state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever the bytes make torch stumble over
        reason = f"{type(error).__name__}: {str(error).strip()}".splitlines()[0][:80]
        raise InputError(
            f"{KEY}: {file} is damaged, or holds more than tensors ({reason}); save its weights alone, as a .safetensors file"
        ) from None
    for wrapper in WRAPPERS:
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    if not isinstance(state, dict) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise InputError(f"{KEY}: {file} holds no weights by name; save a model's state_dict()")
    return state


def _as_timm_names_them(state: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """`state` with timm's names, where timm knows those of the network's authors (DINOv2's registers, for one)."""
    translate = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    if translate is None:
        return state
    try:
        return dict(translate(dict(state), model))
    except (KeyError, RuntimeError, TypeError, AttributeError, IndexError, ValueError):  # of another network
        return state


def _refuse_missing(folder: Path) -> None:
    if not folder.exists():
        architecture = f"; for random weights of this architecture set backbone.model={folder}"
        raise InputError(f"{KEY}: no such file or folder: {folder}{architecture if timm.is_model(str(folder)) else ''}")
    if (folder / "backbone").is_dir():
        raise InputError(f"{KEY}: {folder} is a run; its weights are in {folder / 'backbone'}")
