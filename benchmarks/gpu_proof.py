"""Proves in ten minutes on a GPU what the program promises there; `--tiny --device cpu` is the dry run.

    PYTHONPATH=src python benchmarks/gpu_proof.py --out proof

The folder gets figures.jsonl (written as they are measured), table.md, and verdicts.json with a verdict per bar.
Photographs come from shared/data/cars196 where it is, else they are rendered.
"""

import argparse
import os
from pathlib import Path

os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")  # read when torch first allocates

import torch

from hectocar.lab.gpu_proof import prove_gpu
from hectocar.lab.gpu_proof_figures import show_number

ROOT = Path(__file__).resolve().parent.parent
PHOTOS = [folder / "shared" / "data" / "cars196" / "train" for folder in (ROOT, ROOT.parent)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(os.environ.get("OUT", "proof")))
    parser.add_argument("--seconds", type=float, default=570.0)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--photos", type=Path, default=next((folder for folder in PHOTOS if folder.is_dir()), None))
    options = parser.parse_args()
    device = torch.device(options.device)
    proof = prove_gpu(
        options.out, seconds=options.seconds, device=device, tiny=options.tiny, photos=options.photos,
        on_figure=lambda figure: print(figure.line(), flush=True),
    )  # fmt: skip
    for verdict in proof.verdicts:
        print(f"{verdict.verdict:12s}  {verdict.title}: {show_number(verdict.value)} {verdict.unit}, {verdict.bar}")


if __name__ == "__main__":
    main()
