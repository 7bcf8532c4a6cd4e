"""The program: ``hectocar``, or ``python -m hectocar``."""

import signal
import sys

from hectocar.cli import main


def run() -> None:
    """Runs the command line and ends the process with its exit code."""
    code = main()
    if code > 128:  # interrupted: a second Ctrl-C ends what is still winding up, without a word
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.exit(code)


if __name__ == "__main__":
    run()
