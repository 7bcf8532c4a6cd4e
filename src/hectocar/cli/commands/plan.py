"""``hectocar plan``."""

import argparse

from hectocar.cli.options import NOTHING_WRITTEN, add_config_options, add_device_option, read_options
from hectocar.cli.terminal import print_table, say
from hectocar.cli.values import whole_number

HELP = "print the schedule, epoch by epoch"
AGAIN = NOTHING_WRITTEN


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config_options(parser)
    parser.add_argument("--measure", action="store_true", help="also memory and images/s of a training step at each size")
    parser.add_argument(
        "--classes", type=whole_number(2, 1_000_000), default=396, help="--measure: classes of the head (default: 396)"
    )
    parser.add_argument(
        "--steps", type=whole_number(1, 1_000_000), default=5, help="--measure: timed steps per size (default: 5)"
    )
    add_device_option(parser)


def run(args: argparse.Namespace) -> None:
    from hectocar.training.recipe import plan_rows

    config = read_options(args)
    print_table(plan_rows(config))
    if args.measure:
        from hectocar.lab.step_cost import measure_step_costs, step_cost_rows
        from hectocar.network.arithmetic import choose_device

        say()
        print_table(step_cost_rows(measure_step_costs(config, choose_device(args.device), args.classes, args.steps)))
