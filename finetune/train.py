"""Entry: `accelerate launch finetune/train.py --config configs/finetune/isic2024.yaml [key=value ...]`."""

import sys
from collections.abc import Sequence

from finetune.training import FinetuneConfig, finetune
from ssl_isic.config import read_config
from ssl_isic.errors import command


@command
def main(argv: Sequence[str]) -> None:
    """Read the configuration and train the folds."""
    finetune(read_config(FinetuneConfig, argv, prog="ssl-isic finetune"))


if __name__ == "__main__":
    sys.exit(main())
