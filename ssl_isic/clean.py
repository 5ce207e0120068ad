"""Entry: `ssl-isic clean images=train-image.hdf5 [clean=[hair,shades_of_gray]] [key=value ...]`."""

import sys
from collections.abc import Sequence

from ssl_isic.cleaning_sheet import CleanConfig, draw_sheet
from ssl_isic.config import read_config
from ssl_isic.errors import command


@command
def main(argv: Sequence[str]) -> None:
    """Read the configuration, draw the sheet and say what was changed."""
    config = read_config(CleanConfig, argv, prog="ssl-isic clean")
    print(draw_sheet(config))
    print(f"\nThe sheet is {config.out}")


if __name__ == "__main__":
    sys.exit(main())
