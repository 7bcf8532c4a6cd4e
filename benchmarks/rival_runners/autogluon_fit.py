"""AutoGluon-Multimodal's fit on our split, its defaults but for the backbone, the size, the batch and the epochs.

It reads local weights only from a folder of its own form, which is made of the file. The held-out photographs are its
tuning data, by which it chooses the checkpoints that it averages.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import timm
import torch
from autogluon.multimodal import MultiModalPredictor
from common import Asked, Job, list_photos, note_usage, read_job, write_answers
from PIL import Image
from safetensors.torch import load_file


def write_start(job: Job) -> Path:
    """The weights as the folder that it takes for a timm model."""
    folder = job.out / "start"
    folder.mkdir()
    network = timm.create_model(job.backbone, num_classes=0)
    config = {"architecture": job.backbone, "num_features": network.num_features, "pretrained_cfg": network.default_cfg}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    torch.save(load_file(job.weights), folder / "pytorch_model.bin")
    return folder


def mirror(files: Sequence[Path], folder: Path) -> list[Path]:
    """Mirrored copies of photographs."""
    folder.mkdir(exist_ok=True)
    copies = []
    for number, file in enumerate(files):
        copies.append(folder / f"{number:06d}.png")
        Image.open(file).convert("RGB").transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(copies[-1], compress_level=1)
    return copies


def main() -> None:
    job = read_job()
    photos = list_photos(job.split)
    train, held = (
        pd.DataFrame({"image": [str(file) for file, _ in photos[part]], "label": [label for _, label in photos[part]]})
        for part in ("train", "validation")
    )
    hyperparameters = {
        "model.names": ["timm_image"],
        "model.timm_image.checkpoint_name": str(write_start(job)),
        "model.timm_image.image_size": job.size_px,
        "optim.max_epochs": job.epochs,
        "env.per_gpu_batch_size": job.batch_size,
        "env.batch_size": job.batch_size,
        "env.num_workers": 1,
        **job.settings,
    }
    predictor = MultiModalPredictor(
        label="label", problem_type="multiclass", eval_metric="log_loss", path=str(job.out / "model"), verbosity=2
    )
    with note_usage(job):
        predictor.fit(train, tuning_data=held, hyperparameters=hyperparameters, seed=job.seed)

    def ask(files: Sequence[Path]) -> Asked:
        tables = []
        for paths in (files, mirror(files, job.out / "mirrored")):
            probs = predictor.predict_proba(pd.DataFrame({"image": [str(path) for path in paths]}), as_pandas=True)
            tables.append(torch.from_numpy(probs[range(job.num_classes)].to_numpy(dtype="float64")).clamp_min(1e-30).log())
        embeddings = predictor.extract_embedding(pd.DataFrame({"image": [str(file) for file in files]}))
        embeddings = next(iter(embeddings.values())) if isinstance(embeddings, dict) else embeddings
        return tables[0], tables[1], torch.from_numpy(embeddings)

    write_answers(job, ask)


if __name__ == "__main__":
    main()
