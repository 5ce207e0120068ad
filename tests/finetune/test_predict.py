"""No image is dropped in prediction: one that cannot be read gets the mean of the others, flagged; digits survive the CSV."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import simplejpeg
import torch
from accelerate import Accelerator
from torch import Tensor

from finetune.predict import GivesLogits, Prediction, predict, sigmoid, write_predictions
from ssl_isic.data.images import ImagePool
from ssl_isic.data.workers import LoaderConfig
from ssl_isic.errors import InputError


class MeanRed:
    """A classifier whose logit is the image's mean red value: each image has its own."""

    def logits(self, pixels: Tensor) -> Tensor:
        return pixels[..., 0].float().mean(dim=(1, 2))


def predicted(
    pool: ImagePool, indices: list[int], batch_size: int = 4, workers: int = 0, classifier: GivesLogits | None = None
) -> Prediction:
    return predict(
        classifier or MeanRed(),
        pool,
        np.array(indices, dtype=np.int64),
        image_size=16,
        batch_size=batch_size,
        loader=LoaderConfig(workers=workers),
        accelerator=Accelerator(cpu=True),
    )


def test_images_that_cannot_be_read_keep_their_place_and_get_the_mean_of_the_others(
    tmp_path: Path, write_hdf5: Callable[[Path, Mapping[str, bytes]], Path], lesion_jpegs: dict[str, bytes]
) -> None:
    good = list(lesion_jpegs.items())[:6]
    images = dict(good) | {"ISIC_2": b"not an image", "ISIC_4": good[0][1][:200], "ISIC_9": b""}
    pool = ImagePool({"test": write_hdf5(tmp_path / "images.hdf5", images)})
    ids = [name.decode() for name in pool.slice_of("test")[1]]
    order = [ids.index("ISIC_4"), ids.index(good[3][0]), -1, ids.index(good[0][0]), ids.index("ISIC_2")]
    order += [ids.index("ISIC_9"), ids.index(good[5][0])]
    prediction = predicted(pool, order)
    assert prediction.readable.tolist() == [False, True, False, True, False, False, True]
    prediction = prediction._replace(logits=np.where(prediction.readable, prediction.logits / 100, prediction.logits))
    p = prediction.probabilities(prior=0.0123)
    assert np.allclose(p[~prediction.readable], [p[[1, 3, 6]].mean()] * 4, rtol=1e-12)
    assert p[1] != p[3] != p[6]
    assert predicted(pool, [-1, ids.index("ISIC_2")]).probabilities(0.0123).tolist() == [0.0123] * 2, "nothing is known"
    for place, name in ((1, good[3][0]), (3, good[0][0]), (6, good[5][0])):
        alone = predicted(pool, [ids.index(name)])
        assert prediction.logits[place] == alone.logits[0] / 100
    assert len({*prediction.logits[prediction.readable]}) == 3


class NotANumber(MeanRed):
    """Overflows where all is white."""

    def logits(self, pixels: Tensor) -> Tensor:
        red = super().logits(pixels)
        return torch.where(red >= 255, torch.inf, red)


def test_a_score_that_is_no_number_names_its_image(
    tmp_path: Path, write_hdf5: Callable[[Path, Mapping[str, bytes]], Path], lesion_jpegs: dict[str, bytes]
) -> None:
    white = simplejpeg.encode_jpeg(np.full((32, 32, 3), 255, np.uint8))
    images = dict(list(lesion_jpegs.items())[:9]) | {"ISIC_9": white}
    pool = ImagePool({"test": write_hdf5(tmp_path / "images.hdf5", images)})
    with pytest.raises(InputError, match=r"^the score of ISIC_9 is not a number: .* bf16 or no$"):
        predicted(pool, [3, -1, 4, 5, 6, 9, 0], classifier=NotANumber())


@pytest.mark.parametrize("batch_size", [1, 5, 48, 100])
def test_every_image_once_in_the_order_asked_whatever_the_batch(lesions: Path, batch_size: int) -> None:
    pool = ImagePool({"test": lesions})
    reference = predicted(pool, list(range(48)), batch_size=7)
    order = np.random.default_rng(batch_size).permutation(48)
    shuffled = predicted(pool, order.tolist(), batch_size)
    assert shuffled.logits.shape == (48,)
    assert np.array_equal(shuffled.logits, reference.logits[order])


def test_no_images_give_no_predictions(lesions: Path) -> None:
    assert predicted(ImagePool({"test": lesions}), []).probabilities(0.1).shape == (0,)


def test_sigmoid_keeps_the_digits_of_tiny_probabilities() -> None:
    logits = np.array([-700.0, -40.0, 0.0, 40.0, 1e4, -1e4])
    expected = [np.exp(-700.0), np.exp(-40.0), 0.5, 1.0, 1.0, 0.0]
    assert np.allclose(sigmoid(logits), expected, rtol=1e-12, atol=0)
    float32 = torch.linspace(-20, 20, 41).sigmoid().double().numpy()
    assert np.allclose(sigmoid(np.linspace(-20, 20, 41)), float32, rtol=1e-5)


def test_float64_survives_the_file_to_the_last_bit(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    p = np.concatenate(
        [10 ** rng.uniform(-300, 0, 500), 0.5 + np.arange(200) * 2.0**-53, [0.0, 1.0, 5e-324, 0.1 + 0.2]]
    )
    ids = [f"{number:07d}" for number in range(p.size)]
    path = tmp_path / "scores.csv"
    write_predictions(path, ids, p_malignant=p, readable=p > 0.5)
    lines = path.read_text().splitlines()
    assert lines[0] == "isic_id,p_malignant,readable"
    assert np.array_equal([float(line.split(",")[1]) for line in lines[1:]], p)
    table = pd.read_csv(path, dtype={"isic_id": str})
    assert table["isic_id"].tolist() == ids
    assert np.array_equal(table["readable"].to_numpy(bool), p > 0.5)
