"""Entry: `ssl-isic shards images=train-image.hdf5 out=shards/train [key=value ...]`."""

import sys
from collections.abc import Sequence

from ssl_isic.config import read_config
from ssl_isic.data.shard_writing import ShardsConfig, write_shards
from ssl_isic.errors import command


@command
def main(argv: Sequence[str]) -> None:
    """Read the configuration and write the shards."""
    config = read_config(ShardsConfig, argv, prog="ssl-isic shards")
    index = write_shards(config)
    print(f"{index.plan.images} images in {len(index.shards)} shards are in {config.out}")


if __name__ == "__main__":
    sys.exit(main())
