"""Entry: `ssl-isic overlap pretrain.train=train-image.hdf5 images=ham10000-image.hdf5 [key=value ...]`."""

import sys
from collections.abc import Sequence

from ssl_isic.config import read_config
from ssl_isic.data.overlapping import OverlapConfig, find_overlap, overlap_table
from ssl_isic.errors import command


@command
def main(argv: Sequence[str]) -> None:
    """Read the configuration, compare, and print the counts."""
    config = read_config(OverlapConfig, argv, prog="ssl-isic overlap")
    counts = find_overlap(config)
    print(overlap_table(counts))
    print(f"of {counts.evaluation_images} evaluation images; the pairs are in {config.out}")


if __name__ == "__main__":
    sys.exit(main())
