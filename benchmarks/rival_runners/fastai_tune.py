"""fastai's vision_learner and fine_tune as its documentation shows them: presizing, aug_transforms, the finder's valley."""

from collections.abc import Sequence
from pathlib import Path

import torch
from common import Asked, check_weights, local_weights, note_usage, read_job, write_answers
from fastai.vision.all import ImageDataLoaders, Learner, Resize, aug_transforms, set_seed, vision_learner

PRESIZE = 460 / 224
"""The documentation's Resize(460) before aug_transforms(size=224)."""


@torch.inference_mode()
def ask(learn: Learner, files: Sequence[Path]) -> Asked:
    """Its own validation transform; the embedding is what its last layer sees."""
    body, head = learn.model[0].eval(), learn.model[1].eval()
    parts = []
    for (images,) in learn.dls.test_dl(list(files), bs=64):
        plain = torch.Tensor(images)
        embeddings = head[:-1](body(plain))
        parts.append((head[-1](embeddings), head(body(plain.flip(3))), embeddings))
    first, second, third = (torch.cat(tables) for tables in zip(*parts, strict=True))
    return first, second, third


def main() -> None:
    job = read_job()
    set_seed(job.seed, reproducible=True)
    frozen_epochs = 1  # fine_tune's default; it counts as one of the epochs
    tuned_epochs = max(1, job.epochs - frozen_epochs)
    loaders = ImageDataLoaders.from_folder(
        job.split,
        train="train",
        valid="validation",
        item_tfms=Resize(round(PRESIZE * job.size_px)),
        batch_tfms=aug_transforms(size=job.size_px, min_scale=0.75),
        bs=job.batch_size,
        device=torch.device("cpu"),
    )
    if list(loaders.vocab) != [f"{label:04d}" for label in range(job.num_classes)]:
        raise RuntimeError(f"fastai found {len(loaders.vocab)} classes, {job.num_classes} were meant")
    weights = local_weights(job)
    learn = vision_learner(loaders, job.backbone, pretrained_cfg_overlay=weights["pretrained_cfg_overlay"])
    check_weights(job, learn.model[0].model)
    with note_usage(job, frozen_epochs + tuned_epochs), learn.no_bar():
        found = learn.lr_find(show_plot=False).valley
        print(f"finder: {found:.2e}, times {job.settings['times']}", flush=True)
        learn.fine_tune(tuned_epochs, base_lr=found * job.settings["times"], freeze_epochs=frozen_epochs)
    write_answers(job, lambda files: ask(learn, files))


if __name__ == "__main__":
    main()
