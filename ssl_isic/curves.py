"""Entry: `ssl-isic curves run_dir=runs/simclr`."""

import sys
from collections.abc import Sequence

from ssl_isic.config import read_config
from ssl_isic.errors import command
from ssl_isic.run_curves import CurvesConfig, draw_curves


@command
def main(argv: Sequence[str]) -> None:
    """Read the configuration and draw."""
    print(draw_curves(read_config(CurvesConfig, argv, prog="ssl-isic curves")))


if __name__ == "__main__":
    sys.exit(main())
