"""The command line: parse, call. How it is printed stands in terminal.py, how it may fail in boundary.py."""

import argparse
import sys
from collections.abc import Sequence

from hectocar.allocator import keep_freed_memory
from hectocar.cli.boundary import run_guarded
from hectocar.cli.commands import COMMANDS
from hectocar.cli.options import NOTHING_WRITTEN
from hectocar.cli.parser import build_parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; returns its exit code, see boundary.py. Raises nothing and leaves signal handlers as they were."""
    words = list(sys.argv[1:] if argv is None else argv)
    parsed: list[argparse.Namespace] = []
    debug = "--debug" in words
    code = run_guarded(lambda: parsed.append(build_parser().parse_args(words)), again=NOTHING_WRITTEN, debug=debug)
    if not parsed:
        return code
    (args,) = parsed
    command = COMMANDS[args.command]
    keep_freed_memory()
    again = NOTHING_WRITTEN if args.command == "predict" and args.out is None else command.AGAIN
    return run_guarded(lambda: command.run(args), again=again, debug=args.debug, out=getattr(args, "out", None))


if __name__ == "__main__":
    sys.exit(main())
