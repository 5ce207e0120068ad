"""Entry: `ssl-isic submit run_dir=... images=... sample=... out=submission.csv`."""

import sys
from collections.abc import Sequence

from finetune.submitting import SubmitConfig, submit
from ssl_isic.config import read_config
from ssl_isic.errors import command


@command
def main(argv: Sequence[str]) -> None:
    """Read the configuration and write the submission."""
    submit(read_config(SubmitConfig, argv, prog="ssl-isic submit"))


if __name__ == "__main__":
    sys.exit(main())
