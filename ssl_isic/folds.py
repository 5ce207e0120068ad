"""Entry: `ssl-isic folds table=train-metadata.csv [groups='[patient_id, lesion_id]'] [images=train-image.hdf5]`."""

import sys
from collections.abc import Sequence

from ssl_isic.config import read_config
from ssl_isic.data.fold_making import FoldsConfig, write_splits
from ssl_isic.errors import command


@command
def main(argv: Sequence[str]) -> None:
    """Read the configuration and write the folds."""
    write_splits(read_config(FoldsConfig, argv, prog="ssl-isic folds"))


if __name__ == "__main__":
    sys.exit(main())
