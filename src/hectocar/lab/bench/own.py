"""Our side of each case: calls of the program's own functions, and nothing else."""

import tempfile
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from hectocar.config.reader import read_config
from hectocar.config.schema import Config, InferenceConfig, MixPhase, NetworkConfig, SizePhase
from hectocar.dataset.classes import build_class_list
from hectocar.dataset.provenance import FoldResult, Provenance
from hectocar.delivery.members import BundleSpec, Member, ModelSpec, Precision
from hectocar.delivery.predictor import Classifier
from hectocar.disk.artifacts import hash_file
from hectocar.lab.bench.cases import Job
from hectocar.lab.bench.contestant import Work
from hectocar.lab.trainer import Trainer, random_batch, wait_for
from hectocar.network.carnet import CarNet
from hectocar.network.weights import save_tensors
from hectocar.training.loader import iter_training_batches
from hectocar.training.recipe import EpochPlan, epoch_plan

NUM_CLASSES = 396
MAX_MEGAPIXELS = 100.0


def bench_config(job: Job) -> Config:
    """The published recipe at one size, without mixing, which is no part of a pipeline, and without stochastic depth."""
    recipe = read_config("seed2025")
    network = replace(
        recipe.network,
        backbone=job.backbone or recipe.network.backbone,
        weights="none",
        drop_path_max=0.0,
        compile=job.compiled,
    )
    training = replace(
        recipe.training,
        sizes=(SizePhase(epochs=1.0, size_px=job.size_px, batch_size=job.batch_size, learning_rate=1e-4),),
        mixes=(MixPhase(epochs=1.0, kind="none"),),
        ema_decay=0.999,
        precision=cast(Precision, job.precision),
        seed=job.seed,
    )
    return replace(recipe, network=network, training=training, data=replace(recipe.data, num_workers=job.num_workers))


def bench_plan(config: Config, epoch: int) -> EpochPlan:
    """The first epoch's, under any number: each draws other crops and colours."""
    return replace(epoch_plan(config, 0), epoch=epoch)


def split_rows(job: Job) -> list[NDArray[np.int64]]:
    """Rows of ``job.files``, batch by batch."""
    rows = np.arange(len(job.files), dtype=np.int64)
    return [rows[start : start + job.batch_size] for start in range(0, len(rows), job.batch_size)]


def build_loader(job: Job) -> Work:
    """uint8 batches."""
    config, epochs = bench_config(job), count()

    def work() -> tuple[float, ...]:
        for _ in iter_training_batches(
            job.files, split_rows(job), job.size_px, augment=config.augment, data=config.data, seed=job.seed, epoch=next(epochs)
        ):
            pass
        return ()

    return work


def build_augmentation(job: Job) -> Work:
    """Batches that were decoded before."""
    config = replace(bench_config(job), network=NetworkConfig(backbone="test_resnet", weights="none"))
    trainer, epochs = Trainer(config, NUM_CLASSES, torch.device(job.device)), count(1)
    decoded = list(
        iter_training_batches(
            job.files, split_rows(job), job.size_px, augment=config.augment, data=config.data, seed=job.seed, epoch=0
        )
    )

    def work() -> tuple[float, ...]:
        plan = bench_plan(config, next(epochs))
        for batch in decoded:
            trainer.prepare(plan, batch)
        wait_for(trainer.device)
        return ()

    return work


def build_loader_and_augmentation(job: Job) -> Work:
    """As the training loop takes its batches: decoded ahead, augmented when they are needed."""
    config = replace(bench_config(job), network=NetworkConfig(backbone="test_resnet", weights="none"))
    trainer, epochs = Trainer(config, NUM_CLASSES, torch.device(job.device)), count()

    def work() -> tuple[float, ...]:
        plan = bench_plan(config, next(epochs))
        for batch in iter_training_batches(
            job.files, split_rows(job), job.size_px, augment=config.augment, data=config.data, seed=job.seed, epoch=plan.epoch
        ):
            trainer.prepare(plan, batch)
        wait_for(trainer.device)
        return ()

    return work


def build_step(job: Job) -> Work:
    """Steps on one batch that is ready."""
    config = bench_config(job)
    trainer, plan = Trainer(config, NUM_CLASSES, torch.device(job.device)), epoch_plan(config, 0)
    tensors = trainer.prepare(plan, random_batch(job.batch_size, job.size_px, job.seed))

    def work() -> tuple[float, ...]:
        for _ in range(job.num_steps):
            trainer.step(plan, tensors)
        wait_for(trainer.device)
        return ()

    return work


def build_network(job: Job) -> CarNet:
    """The same random weights in every process."""
    torch.manual_seed(job.seed)
    return CarNet(bench_config(job).network, NUM_CLASSES)


def build_prediction(job: Job) -> Work:
    """A run of one network, as ``Classifier`` loads it."""
    with tempfile.TemporaryDirectory() as folder:
        classifier = Classifier(_write_model(job, Path(folder)), torch.device(job.device))

    def work() -> list[float]:
        probs: list[float] = classifier.predict_proba(job.files, num_workers=job.num_workers).probs_NG.ravel().tolist()
        return probs

    return work


def _write_model(job: Job, folder: Path) -> BundleSpec:
    config, file = bench_config(job), folder / "best.safetensors"
    result = FoldResult(
        epoch=1, weights="raw", size_px=job.size_px, log_loss=0.0, top1=0.0, top5=0.0, inputs_digest="", num_chunks={}
    )
    save_tensors(file, dict(build_network(job).state_dict()), result)
    member = Member(file.name, hash_file(file), 0, job.size_px, 0.0, 0.0)
    inference = InferenceConfig(batch_size=job.batch_size)
    model = ModelSpec("bench", config.network, inference, config.training.precision, Provenance("", {}, "", "", {}, {}))
    classes, share = build_class_list([f"car {k}" for k in range(NUM_CLASSES)]), (1.0 / NUM_CLASSES,) * NUM_CLASSES
    return BundleSpec(folder, classes, (model,), MAX_MEGAPIXELS, share, share, (member,))
