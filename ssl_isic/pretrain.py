"""Entry: `accelerate launch ssl_isic/pretrain.py --config configs/pretrain/simclr.yaml [key=value ...]`."""

import sys
from collections.abc import Sequence

from ssl_isic.config import read_config
from ssl_isic.errors import command
from ssl_isic.pretraining import PretrainConfig, pretrain


@command
def main(argv: Sequence[str]) -> None:
    """Read the configuration and pretrain."""
    pretrain(read_config(PretrainConfig, argv, prog="ssl-isic pretrain"))


if __name__ == "__main__":
    sys.exit(main())
