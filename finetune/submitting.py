"""The submission stage: every fold's model on the test images, their mean, a checked file."""

from pathlib import Path

import numpy as np
from accelerate import Accelerator
from pydantic import Field

from finetune.ensemble import mean_probability, predict_folder, read_ensemble
from finetune.submission import write_submission
from ssl_isic.data.images import ImagePool
from ssl_isic.data.tables import match_ids, read_table
from ssl_isic.data.workers import LoaderConfig
from ssl_isic.errors import InputError
from ssl_isic.files import atomic_write

TEST = "test"


class SubmitConfig(LoaderConfig):
    """Predict a test set with the models of a run and write a checked submission."""

    run_dir: Path
    """A finished fine-tuning or pseudo-label run."""
    images: Path
    """HDF5 file or folder of the test images."""
    sample: Path
    """The sample submission: its ids, in its order, are predicted."""
    out: Path = Path("submission.csv")
    """The file to write."""
    batch_size: int = Field(256, ge=1)
    """Images a forward pass."""


def submit(config: SubmitConfig) -> None:
    """Write the submission. An image that is missing or does not decode gets the mean of the others and is named.

    Images are decoded as the models have learned to see them, unless `decode` is set.
    """
    ensemble = read_ensemble(config.run_dir)
    if "decode" not in config.model_fields_set:
        config = config.model_copy(update={"decode": ensemble.decode})
    ids = [str(value) for value in read_table(config.sample)["isic_id"]]
    pool = ImagePool({TEST: config.images})
    match = match_ids(ids, pool.slice_of(TEST)[1])
    if len(match.missing) == len(ids):
        raise InputError(
            f"{config.images} holds none of the {len(ids)} ids of {config.sample}; do they belong together?"
        )
    accelerator = Accelerator()
    members, readable = [], np.ones(len(ids), bool)
    for folder in ensemble.models:
        scores, could_read = predict_folder(
            folder,
            pool,
            match.rows.astype(np.int64),
            prior=ensemble.prior,
            image_size=ensemble.image_size,
            batch_size=config.batch_size,
            loader=config,
            cleaning=ensemble.cleaning,
            accelerator=accelerator,
            title=str(folder.relative_to(config.run_dir)),
        )
        members.append(scores)
        readable &= could_read
    if not accelerator.is_main_process:
        return
    unread = [identifier for identifier, fine in zip(ids, readable, strict=True) if not fine]
    named = config.out.with_name(f"{config.out.stem}_bad_images.csv")
    named.unlink(missing_ok=True)
    if unread:
        with atomic_write(named) as temporary:
            temporary.write_text("\n".join(["isic_id", *unread]) + "\n", encoding="utf-8")
        print(f"{len(unread)} images are missing or do not decode and got the mean of the others: see {named}")
    write_submission(config.out, ids, mean_probability(members), config.sample)
    print(f"{config.out}: {len(ids)} rows, the mean of {len(members)} models, checked against {config.sample}")
