"""`ssl-isic STAGE ...`: a table of stages, each imported only when it is asked for."""

import importlib
import sys
from collections.abc import Sequence

from ssl_isic.errors import EXIT_INPUT, EXIT_INTERRUPTED

STAGES = {
    "inspect": ("ssl_isic.survey", "look at images and tables first: copies, leaks, gaps, colour, on one page"),
    "prepare": ("ssl_isic.prepare", "make one HDF5 and one CSV of a data set as it was downloaded"),
    "folds": ("ssl_isic.folds", "split labelled images into grouped, stratified folds"),
    "leaks": ("ssl_isic.leaks", "check a split: patients, lesions and pictures in two folds, columns not to be read"),
    "pretrain": ("ssl_isic.pretrain", "learn a backbone from unlabelled images"),
    "overlap": ("ssl_isic.overlap", "note which pretraining images are near-duplicates of evaluation images"),
    "embed": ("ssl_isic.embed", "write the features of images, as a backbone sees them"),
    "evaluate": ("ssl_isic.compare", "compare backbones on labelled images, beside random ones and colour"),
    "finetune": ("finetune.train", "train a malignancy classifier on the folds"),
    "pseudolabel": ("pseudolabel.run", "teach the classifier on unlabelled images, round by round"),
    "submit": ("finetune.submit", "predict a test set and write a checked submission"),
    "clean": ("ssl_isic.clean", "draw images before and after cleaning, to choose it by"),
    "views": ("ssl_isic.views", "draw what the views make of images, to choose a preset by"),
    "styles": ("ssl_isic.styles", "write the styles of clinics, for views that imitate them"),
    "shards": ("ssl_isic.shards", "write images as shards, to pretrain over a network"),
    "curves": ("ssl_isic.curves", "draw what a run has logged"),
    "demo": ("pseudolabel.demo", "all stages on synthetic lesions, in minutes"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one stage; returns its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help"):
        print("usage: ssl-isic STAGE [--config FILE] [key=value ...]\n")
        print("\n".join(f"  {stage:<12} {purpose}" for stage, (_, purpose) in STAGES.items()))
        print(
            "\nssl-isic STAGE --help lists the keys of a stage. On several GPUs: accelerate launch ssl_isic/pretrain.py,"
        )
        print("finetune/train.py or pseudolabel/run.py with the same words.")
        return 0
    stage, *rest = words
    if stage not in STAGES:
        print(f"ssl-isic: no stage {stage}; choose one of {', '.join(STAGES)}", file=sys.stderr)
        return EXIT_INPUT
    module, _ = STAGES[stage]
    try:
        main_of_stage = importlib.import_module(module).main
    except KeyboardInterrupt:
        print("ssl-isic: interrupted before anything began", file=sys.stderr)
        return EXIT_INTERRUPTED
    return int(main_of_stage(rest))


if __name__ == "__main__":
    sys.exit(main())
