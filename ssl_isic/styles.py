"""Entry: `ssl-isic styles images=train-image.hdf5 table=train-metadata.csv out=styles.json [key=value ...]`."""

import sys
from collections.abc import Sequence

from ssl_isic.config import read_config
from ssl_isic.data.style_writing import StylesConfig, write_styles
from ssl_isic.errors import command


@command
def main(argv: Sequence[str]) -> None:
    """Read the configuration and write the styles."""
    config = read_config(StylesConfig, argv, prog="ssl-isic styles")
    record = write_styles(config)
    for clinic in record.clinics:
        print(f"{clinic.name}: {clinic.images} images")
    print(f"{len(record.clinics)} styles are in {config.out}")


if __name__ == "__main__":
    sys.exit(main())
