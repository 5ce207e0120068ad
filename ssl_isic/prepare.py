"""Entry: `ssl-isic prepare --config configs/sources/ham10000.yaml images=[...] tables=[...] out=pools/ham10000`."""

import sys
from collections.abc import Sequence

from ssl_isic.config import read_config
from ssl_isic.data.preparing.preparing import prepare
from ssl_isic.data.preparing.report import lines_of
from ssl_isic.data.preparing.settings import PrepareConfig
from ssl_isic.errors import command


@command
def main(argv: Sequence[str]) -> None:
    """Read the configuration, prepare the source, and say what could not be mapped."""
    config = read_config(PrepareConfig, argv, prog="ssl-isic prepare")
    report = prepare(config)
    rows = f", {report['rows']} rows in {config.output('.csv')}" if report["rows"] else ""
    print(f"{report['images']} images are in {config.output('.hdf5')}{rows}")
    print("\n".join(lines_of(report)))


if __name__ == "__main__":
    sys.exit(main())
