"""Entry: `ssl-isic inspect data.sources.NAME=FILE data.tables.NAME=CSV [key=value ...]`; exit code 1 for what is wrong."""

import sys
from collections.abc import Sequence

from ssl_isic.config import read_config
from ssl_isic.errors import EXIT_FOUND, EXIT_OK, command
from ssl_isic.inspection.inspecting import InspectConfig, inspect


@command
def main(argv: Sequence[str]) -> int:
    """Read the configuration, inspect, and print what was found."""
    config = read_config(InspectConfig, argv, prog="ssl-isic inspect")
    findings = inspect(config)
    for finding in findings:
        print(f"{'WRONG' if finding.wrong else 'note '}  {finding.name}: {finding.text}")
    wrong = sum(finding.wrong for finding in findings)
    print(f"{wrong} findings would make a result wrong; {config.out / 'report.html'} has the details")
    return EXIT_FOUND if wrong else EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
