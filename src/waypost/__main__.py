"""`python -m waypost`: the same as the `waypost` program."""

import sys

from waypost.cli import main

if __name__ == "__main__":
    sys.exit(main())
