"""Entry: `accelerate launch ssl_isic/pretrain.py --config configs/pretrain/simclr.yaml [key=value ...]`."""

import sys
from collections.abc import Sequence

from ssl_isic.config import read_filled_config
from ssl_isic.defaults import fill_defaults
from ssl_isic.errors import command
from ssl_isic.pretraining import PretrainConfig, pretrain


@command
def main(argv: Sequence[str]) -> None:
    """Read the configuration, fill in what follows from the data, and pretrain."""
    config, rules = read_filled_config(PretrainConfig, argv, "ssl-isic pretrain", fill_defaults)
    pretrain(config, rules)


if __name__ == "__main__":
    sys.exit(main())
