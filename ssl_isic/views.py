"""Entry: `ssl-isic views images=train-image.hdf5 views.preset=lesion kind=dino out=sheet.png [key=value ...]`."""

import sys
from collections.abc import Sequence

from ssl_isic.config import read_config
from ssl_isic.errors import command
from ssl_isic.view_sheet import ViewSheetConfig, draw_views


@command
def main(argv: Sequence[str]) -> None:
    """Read the configuration and draw the sheet."""
    config = read_config(ViewSheetConfig, argv, prog="ssl-isic views")
    count = draw_views(config)
    print(f"the views of {count} images are on {config.out}")


if __name__ == "__main__":
    sys.exit(main())
