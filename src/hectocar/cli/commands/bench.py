"""``hectocar bench``."""

import argparse
import re
import textwrap
from pathlib import Path

from hectocar.cli.options import NOTHING_WRITTEN, add_device_option
from hectocar.cli.terminal import ConsoleProgress, print_table, say
from hectocar.cli.values import MAX_WORKERS, path, plain_text, whole_number
from hectocar.codec import show
from hectocar.config.training import MAX_SEED
from hectocar.disk.outputs import MARK, Mark, claim_folder
from hectocar.errors import ConfigError

HELP = "how fast it is here, beside named others"
AGAIN = NOTHING_WRITTEN
CASES = "loader, augmentation, loader+augmentation, step, prediction, scan"
MIN_PX, MAX_PX = 32, 2048
_SIDES = re.compile(r"([1-9][0-9]{1,3})x([1-9][0-9]{1,3})", re.ASCII)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    pick = parser.add_argument
    pick("cases", type=plain_text, nargs="*", metavar="CASE", help=f"{CASES} (default: all)")
    pick("--against", type=plain_text, nargs="+", default=[], metavar="PEER", help="these peers only (default: all)")
    pick(
        "--size", type=whole_number(MIN_PX, MAX_PX), nargs="+", default=[], metavar="N", help="px (default: 256; networks: 160)"
    )
    pick("--backbone", type=plain_text, nargs="+", default=["mobilenetv2_100"], metavar="NAME", help="timm models")
    pick("--photos", type=path, default=None, metavar="DIR", help="photographs to read (default: the showroom's)")
    pick("--resize-photos", type=width_x_height, default=None, metavar="WxH", help="read copies of this size, quality 90")
    pick("--num-photos", type=whole_number(1, 100_000), default=64, help="photographs a round (default: 64)")
    pick("--batch", type=whole_number(2, 4096), default=32, help="photographs a batch (default: 32)")
    pick("--steps", type=whole_number(1, 10_000), default=2, help="step: steps a round (default: 2)")
    pick("--rounds", type=whole_number(2, 1000), default=5, help="timed rounds, in another order each (default: 5)")
    pick("--precision", choices=("bfloat16", "float16", "float32"), default="bfloat16", help="of networks, where it is fast")
    pick("--compile", action="store_true", help="step: torch.compile, for both")
    pick("--workers", type=whole_number(0, MAX_WORKERS), default=0, help="of everybody (default: one per core)")
    pick("--seed", type=whole_number(0, MAX_SEED), default=0, help="which photographs, weights, orders (default: 0)")
    pick("--gpu-proof", action="store_true", help="instead: what is promised on a GPU, with a verdict per bar, in --seconds")
    pick("--seconds", type=whole_number(10, 86_400), default=570, help="of --gpu-proof (default: 570)")
    pick("--tiny", action="store_true", help="--gpu-proof in small, on any device: a dry run that proves nothing")
    add_device_option(parser)
    pick("--out", type=path, default=Path("bench"), metavar="DIR", help="gets bench.json (raw samples) and bench.svg")


def width_x_height(text: str) -> tuple[int, int]:
    """A type for argparse: ``690x437``."""
    found = _SIDES.fullmatch(text)
    if found is None or not all(MIN_PX <= int(side) <= 4096 for side in found.groups()):
        raise argparse.ArgumentTypeError(f"is {show(text)}; allowed: width x height in px, each {MIN_PX} to 4096, as 690x437")
    return int(found[1]), int(found[2])


def run(args: argparse.Namespace) -> None:
    if args.gpu_proof:
        prove_on_gpu(args)
        return
    from hectocar.lab.bench.measure import BenchPlan, run_bench
    from hectocar.lab.bench.report import bench_notes, bench_rows, save_bench

    plan = BenchPlan(
        cases=args.cases, against=args.against, sizes=args.size, backbones=args.backbone, photos=args.photos,
        resize=args.resize_photos, num_photos=args.num_photos, batch_size=args.batch, num_steps=args.steps,
        num_rounds=args.rounds, precision=args.precision, compiled=args.compile, device=args.device, workers=args.workers,
        seed=args.seed,
    )  # fmt: skip
    with claim_folder(args.out, "bench", data=args.photos):
        with ConsoleProgress() as progress:
            bench = run_bench(plan, progress)
        save_bench(bench, args.out)
    print_table(bench_rows(bench))
    for line in bench_notes(bench):
        say(line)
    say(f"{args.out}: bench.json (raw samples), bench.svg")


def prove_on_gpu(args: argparse.Namespace) -> None:
    """``hectocar bench --gpu-proof``."""
    from hectocar.lab.gpu_proof import prove_gpu
    from hectocar.lab.gpu_proof_bars import verdict_rows
    from hectocar.network.arithmetic import choose_device

    if args.cases:
        raise ConfigError(f"--gpu-proof has its own stages; {args.cases[0]!r} is a case of a bench without it")
    device = choose_device(args.device)
    if device.type != "cuda" and not args.tiny:
        raise ConfigError(f"--gpu-proof needs a GPU, and --device {args.device} is {device.type} here; --tiny is the dry run")
    with claim_folder(args.out, "proof", data=args.photos), ConsoleProgress() as progress:
        args.out.mkdir(parents=True, exist_ok=True)
        Mark("proof").write(args.out / MARK)
        proof = prove_gpu(
            args.out, seconds=args.seconds, device=device, tiny=args.tiny, photos=args.photos,
            on_figure=lambda figure: progress.note(figure.line()),
        )  # fmt: skip
    print_table([[*row[:-1], textwrap.shorten(row[-1], 80, placeholder=" ...")] for row in verdict_rows(proof.verdicts)])
    if args.tiny:
        say("a dry run in small: its verdicts say nothing about a GPU")
    say(f"{args.out}: figures.jsonl, table.md, verdicts.json")
