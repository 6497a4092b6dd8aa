"""`python -m paddock`: the command line, for launchers that start modules (torchrun)."""

from __future__ import annotations

import sys

from paddock.cli import main

if __name__ == "__main__":
    sys.exit(main())
