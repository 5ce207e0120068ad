"""Entry: `ssl-isic views images=train-image.hdf5 out=views.png [views.preset=NAME_OR_FILE.yaml] [method=dino]`."""

import sys
from collections.abc import Sequence

from ssl_isic.config import read_config
from ssl_isic.errors import command
from ssl_isic.views_sheet import SheetConfig, draw_sheet


@command
def main(argv: Sequence[str]) -> None:
    """Read the configuration and draw the views."""
    config = read_config(SheetConfig, argv, prog="ssl-isic views")
    for line in draw_sheet(config):
        print(line)


if __name__ == "__main__":
    sys.exit(main())
