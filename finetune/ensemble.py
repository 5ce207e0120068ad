"""The models of a run, and the mean of their predictions."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import timm
from accelerate import Accelerator
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import Tensor, nn

from finetune.labelled import LabelledConfig
from finetune.last_layer import keep_logits_exact
from finetune.predict import predict
from ssl_isic.backbones import normalization_of
from ssl_isic.data.cleaning import check_names
from ssl_isic.data.images import ImagePool
from ssl_isic.data.workers import Decode, LoaderConfig
from ssl_isic.errors import InputError
from ssl_isic.files import write_json


class Ensemble(NamedTuple):
    """Folders of models, the prevalence they were trained at, and how they see images: side, px, cleaning and decoding."""

    models: list[Path]
    prior: float
    image_size: int
    cleaning: list[str]
    decode: Decode


class SavedClassifier(nn.Module):
    """A classifier folder, loaded by timm."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        try:
            self.model: nn.Module = timm.create_model(f"local-dir:{folder}", pretrained=True)
        except (OSError, RuntimeError, SafetensorError, KeyError, ValueError) as error:
            raise InputError(f"cannot load the model in {folder}: {str(error).splitlines()[0]}") from None
        keep_logits_exact(self.model)
        self.normalize = normalization_of(self.model)

    def logits(self, pixels: Tensor) -> Tensor:
        """float32 logits (B,) of uint8 pixels (B, h, w, 3)."""
        logits: Tensor = self.model(self.normalize(pixels)).squeeze(1).float()
        return logits


def fold_folder(run_dir: Path, fold: int) -> Path:
    """Where a run has what is of fold `fold`, its model among it."""
    return run_dir / f"fold-{fold}"


def read_ensemble(run_dir: Path) -> Ensemble:
    """The models that a fine-tuning or pseudo-label run ended with. InputError when it has not ended."""
    path = run_dir / "models.json"
    try:
        listed: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return Ensemble(
            [run_dir / str(model) for model in listed["models"]],
            float(listed["prior"]),
            int(listed["image_size"]),
            check_names(list(listed.get("clean", []))),
            "full" if listed.get("decode") == "full" else "reduced",
        )
    except OSError:
        raise InputError(f"no such file: {path}; is {run_dir} a finished fine-tuning or pseudo-label run?") from None
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} does not list models ({error}); run the training again") from None


def write_ensemble(
    run_dir: Path, models: Sequence[str], prior: float, image_size: int, data: LabelledConfig, **further: object
) -> None:
    """Write `models.json` for `read_ensemble`: folders of models below `run_dir`, and what a prediction has to know."""
    about = {"prior": prior, "image_size": image_size, "clean": list(data.clean), "decode": data.decode, **further}
    write_json(run_dir / "models.json", {"models": list(models), **about})


def predict_folder(
    folder: Path,
    pool: ImagePool,
    indices: NDArray[np.int64],
    *,
    prior: float,
    image_size: int,
    batch_size: int,
    loader: LoaderConfig,
    cleaning: Sequence[str] = (),
    accelerator: Accelerator,
    title: str,
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Probabilities (N,) of one saved model on pool images `indices` (N,), and which images could be read (N,)."""
    classifier = SavedClassifier(folder).to(accelerator.device).eval()
    predicted = predict(
        classifier,
        pool,
        indices,
        image_size=image_size,
        batch_size=batch_size,
        loader=loader,
        cleaning=cleaning,
        accelerator=accelerator,
        title=title,
    )
    return predicted.probabilities(prior), predicted.readable


def mean_probability(members: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """The mean over models of their probabilities (N,), in float64."""
    mean: NDArray[np.float64] = np.mean(np.stack(members), axis=0)
    return mean
