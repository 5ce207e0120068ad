"""Entry: `accelerate launch pseudolabel/run.py --config configs/pseudolabel/isic2024.yaml [key=value ...]`."""

import sys
from collections.abc import Sequence

from pseudolabel.rounds import PseudolabelConfig, run_rounds
from ssl_isic.config import read_config
from ssl_isic.errors import command


@command
def main(argv: Sequence[str]) -> None:
    """Read the configuration and run the rounds."""
    run_rounds(read_config(PseudolabelConfig, argv, prog="ssl-isic pseudolabel"))


if __name__ == "__main__":
    sys.exit(main())
