"""The part of the configuration tree that schedules a training; schema.py holds the rest and the whole."""

from dataclasses import dataclass, field
from typing import Literal

from hectocar.codec import show
from hectocar.errors import ConfigError

MAX_SEED = 2**63 - 1
"""What NumPy and torch hold in an int64."""
MAX_EPOCHS = 10_000


class Problems:
    """Collects the mistakes of one section so that they are reported together."""

    def __init__(self, section: str) -> None:
        self.section = section
        self.lines: list[str] = []

    def require(self, ok: bool, name: str, value: object, allowed: str) -> None:
        if not ok:
            self.lines.append(f"{self.section}.{name} is {show(value)}; allowed: {allowed}")

    def positive(self, name: str, value: float, most: float) -> None:
        self.require(0 < value <= most, name, value, f"more than 0, up to {most:g}")

    def within(self, name: str, value: float, least: float, most: float, meaning: str = "") -> None:
        self.require(least <= value <= most, name, value, f"{least:g}{meaning} to {most:.0f}")

    def fraction(self, name: str, value: float) -> None:
        self.require(0.0 <= value <= 1.0, name, value, "0 to 1")

    def raise_if_any(self) -> None:
        if self.lines:
            raise ConfigError("\n".join(self.lines))


@dataclass(frozen=True, kw_only=True)
class SizePhase:
    """Some epochs at one input size."""

    epochs: float
    """Length, relative to the other phases; the phases together fill ``training.epochs``."""
    size_px: int
    """Side of the square input."""
    batch_size: int
    """Photographs per optimiser step."""
    learning_rate: float
    """Backbone learning rate before warm-up and cosine."""

    def __post_init__(self) -> None:
        problems = Problems("training.sizes[...]")
        problems.within("epochs", self.epochs, 0.001, MAX_EPOCHS)
        problems.require(32 <= self.size_px <= 2048, "size_px", self.size_px, "32 to 2048")
        problems.require(2 <= self.batch_size <= 65536, "batch_size", self.batch_size, "2 to 65536")
        problems.positive("learning_rate", self.learning_rate, 1e38)  # what float32 holds; beyond sense is divergence
        problems.raise_if_any()


@dataclass(frozen=True, kw_only=True)
class MarginPhase:
    """Some epochs with one ArcFace margin."""

    epochs: float
    """Length, relative to the other phases."""
    margin_rad: float
    """Angle added to the label's own class, in radians."""

    def __post_init__(self) -> None:
        problems = Problems("training.margins[...]")
        problems.within("epochs", self.epochs, 0.001, MAX_EPOCHS)
        problems.require(0.0 <= self.margin_rad <= 1.5, "margin_rad", self.margin_rad, "0 to 1.5")
        problems.raise_if_any()


@dataclass(frozen=True, kw_only=True)
class MixPhase:
    """Some epochs with one way of mixing photographs."""

    epochs: float
    """Length, relative to the other phases."""
    kind: Literal["none", "cutmix", "mixup"]
    """``cutmix`` pastes a box of another photograph, ``mixup`` blends two."""
    alpha: float = 1.0
    """Both parameters of the Beta distribution that the share is drawn from."""
    prob: float = 1.0
    """Probability that a photograph is mixed."""

    def __post_init__(self) -> None:
        problems = Problems("training.mixes[...]")
        problems.within("epochs", self.epochs, 0.001, MAX_EPOCHS)
        problems.within("alpha", self.alpha, 0.01, 100)
        problems.fraction("prob", self.prob)
        problems.raise_if_any()


def _default_sizes() -> tuple[SizePhase, ...]:
    return (SizePhase(epochs=1, size_px=224, batch_size=64, learning_rate=1e-4),)


def _default_margins() -> tuple[MarginPhase, ...]:
    return (MarginPhase(epochs=1, margin_rad=0.1),)


def _default_mixes() -> tuple[MixPhase, ...]:
    return (MixPhase(epochs=1, kind="none"),)


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    epochs: int = 10
    """Passes over the training photographs; all phases stretch or shrink to it."""
    seed: int = 2025
    """Seed of weights, order and augmentation."""
    sizes: tuple[SizePhase, ...] = field(default_factory=_default_sizes)
    """Progressive resizing."""
    margins: tuple[MarginPhase, ...] = field(default_factory=_default_margins)
    """Margin schedule."""
    mixes: tuple[MixPhase, ...] = field(default_factory=_default_mixes)
    """CutMix, MixUp, neither."""
    head_multiplier: float = 5.0
    """Head learning rate = this x backbone learning rate."""
    warmup_epochs: float = 0.0
    """Epochs of linear warm-up from a hundredth of the learning rate."""
    cosine: Literal["epoch", "step", "none"] = "epoch"
    """Cosine annealing to 0 over all epochs: lowered once per epoch, at every step, or not at all."""
    weight_decay: float = 1e-2
    """AdamW's decoupled decay, on matrices only (biases, norms and GeM's exponent are left alone)."""
    betas: tuple[float, float] = (0.9, 0.999)
    """AdamW's moments."""
    clip_norm: float = 1.0
    """Gradient norm limit; 0 switches clipping off."""
    label_smoothing: float = 0.05
    """Share of the target that is spread evenly over all classes."""
    drop_path_start: float = 1.0
    """Drop-path at the first epoch as a share of ``network.drop_path_max``; it rises linearly to the whole."""
    ema_decay: float = 0.0
    """Decay per step of the averaged weights; 0 keeps no average."""
    finetune_epochs: int = 0
    """Length of the fine-tuning stage at the end, in epochs; what it does, the next two say."""
    finetune_plain: bool = False
    """Fine-tuning stage: no margin and no label smoothing."""
    finetune_ema_restart: bool = False
    """Fine-tuning stage: the averaged weights begin anew from the weights of its start."""
    layer_decay: float = 1.0
    """Learning rate of a backbone layer as a share of the next one's (0.7 to 0.8 for ConvNeXt); 1 is the same for all."""
    sam_rho: float = 0.0
    """Sharpness-aware minimisation: radius of the step uphill; doubles the time of a step. 0 switches it off."""
    similar_prob: float = 0.0
    """Probability that a batch is drawn from pairs of similar classes."""
    max_similar_pairs: int = 300
    """Pairs kept: from the class names at first, from the validation's confusions and the class centres after it (with
    ``select: last`` from the centres alone)."""
    balance: float = 0.0
    """Class-balanced sampling: 0 shows each photograph once an epoch, 1 repeats those of small classes until every class
    is shown as often as the largest; between them, (largest / own)^balance times."""
    margin_balance: float = 0.0
    """Adaptive margin: a class's margin is multiplied by (mean size / own size)^balance, at most doubled."""
    noise_epoch: int = 0
    """Before this epoch (from 1), photographs far from their class's dominant sub-center are dropped and one sub-center
    per class is kept; 0 never."""
    noise_degrees: float = 75.0
    """The angle that counts as far."""
    select: Literal["best", "last"] = "best"
    """What the fold keeps: ``best``, the epoch and the weights (raw or averaged) with the lowest validation log loss, or
    ``last``, the last epoch's averaged weights (raw without ``ema_decay``). With ``last`` held-out photographs choose
    nothing: they are only reported on, so that out-of-fold figures are those of networks that never saw them."""
    soup_epochs: int = 0
    """After the last epoch, a greedy average over the weights of the last so many epochs is tried; 0 or 1 tries none."""
    pretrained_mix: tuple[float, ...] = ()
    """After the last epoch, the best backbone is mixed with these shares of its pretrained weights, and the best kept."""
    precision: Literal["float32", "bfloat16", "float16"] = "bfloat16"
    """Arithmetic of the backbone; pooling, head and loss are always float32. float16 uses a loss scaler. float32 is exact on
    a GPU too: TF32 is switched off, in training, validation and prediction."""
    validate_last_epochs: int = 0
    """Validate after each of the last so many epochs; 0 validates after every epoch."""
    validate_every: int = 0
    """Before those, validate after each so many epochs; 0 does not."""
    validate_raw: bool = True
    """Validate the raw weights beside the averaged ones; off, only the averaged can be kept, where there are any."""
    memory_gib: float = 0.0
    """Memory that a training step may take; a batch that needs more is split, and its gradients are accumulated. 0: what
    the device has."""
    checkpoint_minutes: float = 5.0
    """Time between checkpoints inside an epoch; one is always written at each epoch's end."""

    def __post_init__(self) -> None:
        problems = Problems("training")
        problems.require(1 <= self.epochs <= MAX_EPOCHS, "epochs", self.epochs, f"1 to {MAX_EPOCHS}")
        problems.require(0 <= self.seed <= MAX_SEED, "seed", self.seed, f"0 to {MAX_SEED}")
        for name in ("sizes", "margins", "mixes"):
            problems.require(len(getattr(self, name)) > 0, name, getattr(self, name), "at least one phase")
        problems.positive("head_multiplier", self.head_multiplier, 1000)
        problems.require(0.0 <= self.warmup_epochs <= self.epochs, "warmup_epochs", self.warmup_epochs, "0 to training.epochs")
        problems.within("weight_decay", self.weight_decay, 0, 10)
        problems.require(all(0.0 <= b < 1.0 for b in self.betas), "betas", self.betas, "two numbers from 0 up to 1")
        problems.within("clip_norm", self.clip_norm, 0, 1_000_000, " (off)")
        problems.require(
            0.0 <= self.label_smoothing < 1.0, "label_smoothing", self.label_smoothing, "0 up to, not including, 1"
        )
        problems.fraction("drop_path_start", self.drop_path_start)
        problems.require(0.0 <= self.ema_decay < 1.0, "ema_decay", self.ema_decay, "0 (off) up to, not including, 1")
        for name in ("finetune_epochs", "noise_epoch", "soup_epochs"):
            problems.require(0 <= getattr(self, name) <= self.epochs, name, getattr(self, name), "0 (off) to training.epochs")
        if self.select == "last":
            allowed = "with training.select 'last': average and mixture are chosen by held-out photographs"
            problems.require(self.soup_epochs <= 1, "soup_epochs", self.soup_epochs, f"0 or 1 {allowed}")
            problems.require(not self.pretrained_mix, "pretrained_mix", self.pretrained_mix, f"nothing {allowed}")
        problems.require(0.0 < self.layer_decay <= 1.0, "layer_decay", self.layer_decay, "more than 0, up to 1")
        problems.require(0.0 <= self.sam_rho <= 1.0, "sam_rho", self.sam_rho, "0 (off) to 1")
        problems.require(
            self.sam_rho == 0.0 or self.precision != "float16", "sam_rho", self.sam_rho, "0 with precision float16, or bfloat16"
        )
        problems.fraction("similar_prob", self.similar_prob)
        problems.within("max_similar_pairs", self.max_similar_pairs, 1, 1_000_000)
        problems.fraction("balance", self.balance)
        problems.fraction("margin_balance", self.margin_balance)
        problems.require(0.0 < self.noise_degrees <= 180.0, "noise_degrees", self.noise_degrees, "more than 0, up to 180")
        problems.require(
            all(0.0 < share < 1.0 for share in self.pretrained_mix), "pretrained_mix", self.pretrained_mix, "shares from 0 to 1"
        )
        problems.within("memory_gib", self.memory_gib, 0, 100_000, " (automatic)")
        problems.within("validate_last_epochs", self.validate_last_epochs, 0, MAX_EPOCHS, " (each epoch)")
        problems.within("validate_every", self.validate_every, 0, MAX_EPOCHS, " (not before the last)")
        problems.within("checkpoint_minutes", self.checkpoint_minutes, 0, 100_000, " (every step)")
        problems.raise_if_any()
