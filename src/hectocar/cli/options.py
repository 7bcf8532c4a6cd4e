"""Options that several commands share."""

import argparse
from typing import Any

from hectocar.cli.values import path, plain_text
from hectocar.config.reader import list_presets, read_config
from hectocar.config.schema import Config

CALL_AGAIN = "call the same command again"
NOTHING_WRITTEN = f"nothing was written; {CALL_AGAIN}"


def add_config_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--preset", default=None, help=f"starting point: {', '.join(list_presets())}")
    parser.add_argument("--config", type=path, default=None, metavar="FILE", help="YAML file that overrides the preset")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override one value, such as training.epochs=12; repeatable",
    )


def add_debug_option(parser: argparse.ArgumentParser, default: object) -> None:
    parser.add_argument("--debug", action="store_true", default=default, help="show the traceback of whatever goes wrong")


def add_device_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 ... (default: auto)")


def add_start_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--weights", type=plain_text, default=None, metavar="FILE", help="pretrained backbone: a file, 'hub' or 'none'"
    )
    parser.add_argument("--audit", type=path, default=None, metavar="DIR", help="obey an audit, and validate shifted too")


def read_options(args: argparse.Namespace) -> Config:
    """The configuration that the options describe; those that stand for a key are plain values: a path is no YAML."""
    chosen: dict[str, Any] = {"data.audit": getattr(args, "audit", None), "network.weights": getattr(args, "weights", None)}
    overrides = {key: str(value) for key, value in chosen.items() if value is not None}
    return read_config(args.preset, args.config, args.set, overrides=overrides)
