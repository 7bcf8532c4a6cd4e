"""Peak memory of `hectocar predict` with large networks: five ConvNeXt-Base and several views, on photographs of a folder.

python benchmarks/predict_memory.py PHOTOS --backbone convnext_base --size 384 --photos 24

The networks have random weights: memory does not care. The bundle holds five of them, banks of 33,000 embeddings each,
and a finish of four views; predictions go through the parts of the real command. The table of 8,258 x 396 probabilities that
the whole contest adds is counted on top.
"""

import argparse
import multiprocessing
import resource
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from hectocar.calibration.blend import Blend, ViewBlend
from hectocar.calibration.chain import Expected, Finish, Level
from hectocar.calibration.floor import DOUBT_NAMES, Floor, FloorLink
from hectocar.calibration.neighbours import NeighbourLink, NeighbourModel, to_unit
from hectocar.calibration.temperature import Temperature, TemperatureLink
from hectocar.config.schema import InferenceConfig, NetworkConfig
from hectocar.dataset.classes import build_class_list
from hectocar.dataset.provenance import FoldResult, Provenance
from hectocar.delivery.bundle import Bank, write_bundle
from hectocar.delivery.members import BundleSpec, Member, ModelSpec
from hectocar.delivery.predictor import Classifier
from hectocar.delivery.stream import predict_in_parts
from hectocar.disk.artifacts import hash_file
from hectocar.network.carnet import CarNet
from hectocar.network.weights import save_tensors
from hectocar.photos.decode import PHOTO_SUFFIXES

NUM_CLASSES, NUM_FOLDS, NUM_PHOTOS, NUM_BANK = 396, 5, 8258, 33000
VIEWS = ("plain", "mirror", "large", "zoom_bright")


def write_model(folder: Path, backbone: str, size_px: int) -> None:
    """A bundle of five networks, made as `finish` makes it."""
    classes = build_class_list([f"car {number:03d}" for number in range(NUM_CLASSES)])
    network = CarNet(NetworkConfig(backbone=backbone, weights="none"), NUM_CLASSES)
    run, members, banks = folder / "run", [], {}
    rng = np.random.default_rng(0)
    for fold in range(NUM_FOLDS):
        name = f"{fold}.safetensors"
        result = {"epoch": 1, "weights": "raw", "size_px": size_px, "log_loss": 1.0, "top1": 0.5, "top5": 0.5}
        save_tensors(run / name, dict(network.state_dict()), FoldResult(**result, inputs_digest="", num_chunks={}))
        members.append(Member(name, "", fold, size_px, 1.0, 0.5))
        embeddings = rng.standard_normal((NUM_BANK, network.embed_dim)).astype(np.float16)
        labels = rng.integers(0, NUM_CLASSES, len(embeddings))
        banks[(0, fold)] = Bank(to_unit(embeddings), labels, len(embeddings) // NUM_FOLDS)
    model = ModelSpec("run", network.config, InferenceConfig(), "float32", Provenance("", {}, "", "", {}, {}))
    share = (1.0 / NUM_CLASSES,) * NUM_CLASSES
    spec = BundleSpec(run, classes, (model,), 100.0, share, share, hash_members(run, members))
    zeros, ones, plain = (0.0,) * len(DOUBT_NAMES), (1.0,) * len(DOUBT_NAMES), Temperature(0.0, (), (), ())
    links = (
        ViewBlend(Blend((0.25,) * 4, "geometric")),
        TemperatureLink(plain),
        NeighbourLink(Blend((0.8, 0.2), "arithmetic"), plain),
        FloorLink(Temperature(0.0, zeros, zeros, ones), Floor(-4.0, zeros, zeros, ones)),
    )
    level = Level(VIEWS, 4.6, Expected(1.0, 0.1, None, None), links)
    write_bundle([spec], folder / "bundle", finish=Finish((level,), NeighbourModel(20, 0.1, 0.1), 110.0), banks=banks)


def hash_members(run: Path, members: list[Member]) -> tuple[Member, ...]:
    """With the digests of their files."""
    return tuple(replace(member, sha256=hash_file(run / member.file)) for member in members)


def predict(folder: Path, files: tuple[Path, ...]) -> float:
    """GiB that a fresh process took at most."""
    torch.set_num_threads(2)
    classifier = Classifier.load(folder / "bundle", device="cpu")
    predict_in_parts(classifier, files, folder / "answer.parts", num_workers=2)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--backbone", default="convnext_base")
    parser.add_argument("--size", type=int, default=384)
    parser.add_argument("--photos", type=int, default=24)
    args = parser.parse_args()
    files = tuple(sorted(file for file in args.folder.rglob("*") if file.suffix.lower() in PHOTO_SUFFIXES))[: args.photos]
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        with context.Pool(1) as pool:
            pool.apply(write_model, (Path(folder), args.backbone, args.size))
        with context.Pool(1) as pool:
            peak = pool.apply(predict, (Path(folder), files))
    table = NUM_PHOTOS * NUM_CLASSES * 8 / 2**30
    print(
        f"{args.backbone} x {NUM_FOLDS}, {args.size} px, views {', '.join(VIEWS)}, {len(files)} photographs: "
        f"{peak:.2f} GiB at most; + 3 tables of {NUM_PHOTOS} x {NUM_CLASSES}: {peak + 3 * table:.2f} GiB"
    )


if __name__ == "__main__":
    main()
