"""Entry: `ssl-isic leaks folds=folds.csv table=train-metadata.csv [images=train-image.hdf5] [inputs=[...]]`."""

import sys
from collections.abc import Sequence

from ssl_isic.config import read_config
from ssl_isic.data.leak_check import LeaksConfig, check_split
from ssl_isic.errors import command


@command
def main(argv: Sequence[str]) -> None:
    """Read the configuration and check the split."""
    check_split(read_config(LeaksConfig, argv, prog="ssl-isic leaks"))


if __name__ == "__main__":
    sys.exit(main())
