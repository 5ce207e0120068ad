"""`ssl-isic STAGE ...`: a table of stages, each imported only when it is asked for."""

import importlib
import sys
from collections.abc import Sequence

STAGES = {
    "inspect": ("ssl_isic.survey", "look at images and tables first: copies, leaks, gaps, colour, on one page"),
    "pretrain": ("ssl_isic.pretrain", "learn a backbone from unlabelled images"),
    "shards": ("ssl_isic.shards", "write images as shards, to pretrain over a network"),
    "curves": ("ssl_isic.curves", "draw what a run has logged"),
    "folds": ("ssl_isic.folds", "split labelled images into grouped, stratified folds"),
    "leaks": ("ssl_isic.leaks", "check a split: patients, lesions and pictures in two folds, columns not to be read"),
    "overlap": ("ssl_isic.overlap", "note which pretraining images are near-duplicates of evaluation images"),
    "finetune": ("finetune.train", "train a malignancy classifier on the folds"),
    "pseudolabel": ("pseudolabel.run", "teach the classifier on unlabelled images, round by round"),
    "embed": ("ssl_isic.embed", "write the features of images, as a backbone sees them"),
    "evaluate": ("ssl_isic.compare", "compare backbones on labelled images, beside random ones and colour"),
    "submit": ("finetune.submit", "predict a test set and write a checked submission"),
    "demo": ("pseudolabel.demo", "all stages on synthetic lesions, in minutes"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one stage; returns its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help"):
        print("usage: ssl-isic STAGE [--config FILE] [key=value ...]\n")
        print("\n".join(f"  {stage:<12} {purpose}" for stage, (_, purpose) in STAGES.items()))
        print("\nssl-isic STAGE --help lists the keys of a stage.")
        return 0
    stage, *rest = words
    if stage not in STAGES:
        print(f"ssl-isic: no stage {stage}; choose one of {', '.join(STAGES)}", file=sys.stderr)
        return 2
    module, _ = STAGES[stage]
    return int(importlib.import_module(module).main(rest))


if __name__ == "__main__":
    sys.exit(main())
