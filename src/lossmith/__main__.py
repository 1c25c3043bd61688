"""Entry point of `python -m lossmith`, for environments whose scripts are not on the path."""

import sys

from lossmith.cli import main

if __name__ == "__main__":
    sys.exit(main())
