"""The command line where it is not on the path: `python -m lossmith`."""

import sys

from lossmith.cli import main

if __name__ == "__main__":
    sys.exit(main())
