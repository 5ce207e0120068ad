"""Entry: `ssl-isic embed backbone=runs/simclr/backbone images=train-image.hdf5 [key=value ...]`, launched or alone."""

import sys
from collections.abc import Sequence

from ssl_isic.config import read_config
from ssl_isic.errors import command
from ssl_isic.evaluation.embedding import EmbedConfig, embed


@command
def main(argv: Sequence[str]) -> None:
    """Read the configuration and write the features."""
    embed(read_config(EmbedConfig, argv, prog="ssl-isic embed"))


if __name__ == "__main__":
    sys.exit(main())
