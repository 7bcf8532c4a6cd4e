"""``python -m hectocar``."""

import sys

from hectocar.cli import main

sys.exit(main())
