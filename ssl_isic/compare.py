"""Entry: `ssl-isic evaluate backbones.simclr=runs/simclr/backbone images=... table=... out=...`, launched or alone."""

import sys
from collections.abc import Sequence

from ssl_isic.config import read_config
from ssl_isic.errors import command
from ssl_isic.evaluation.evaluating import EvaluateConfig, evaluate


@command
def main(argv: Sequence[str]) -> None:
    """Read the configuration and compare the backbones."""
    evaluate(read_config(EvaluateConfig, argv, prog="ssl-isic evaluate"))


if __name__ == "__main__":
    sys.exit(main())
