"""The typed configuration tree. Every knob of the project is a field below; units are in the names.

Defaults < preset < ``--config file.yaml`` < ``--set training.epochs=12``; see reader.py. A section checks itself
when it is made and reports all its mistakes at once.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from hectocar.codec import list_choices
from hectocar.config.training import MAX_SEED, Problems
from hectocar.config.training import MarginPhase as MarginPhase
from hectocar.config.training import MixPhase as MixPhase
from hectocar.config.training import SizePhase as SizePhase
from hectocar.config.training import TrainingConfig as TrainingConfig

MAX_MEGAPIXELS = 1000.0


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    num_folds: int = 5
    """Cross-validation folds, stratified by class, never splitting a group of duplicates."""
    fold_seed: int = 2025
    """Seed of the fold assignment."""
    group_duplicates: bool = True
    """Keep equal photographs, and an audit's groups, on one side of a fold. False deals every photograph by itself: a random
    split, whose validation flatters."""
    drop_exact_duplicates: bool = True
    """Keep one of each set of byte-identical training photographs of a class."""
    exclude: tuple[str, ...] = ()
    """Lists of training files to leave out: paths of a csv with a column ``file``, or ``contest:noise_seed``."""
    audit: str = ""
    """Folder that ``hectocar audit`` wrote: its decisions are obeyed, and its groups never stand on both sides of a fold.
    With one, ``drop_exact_duplicates`` plays no part: the decisions say what is dropped."""
    shift: str = "audit"
    """Shifted validation beside the plain one: ``audit`` (the shift that the audit fitted, if there is one), ``none``, or
    the path of a shift.json."""
    class_limit: int = 0
    """Use only the first so many trained classes, in code-point order, in which similar cars are neighbours; 0 uses all.
    For small experiments."""
    max_megapixels: float = 100.0
    """A photograph with more pixels (in millions) is refused as damaged."""
    num_workers: int = 0
    """Decoding threads or processes; 0 means one per core that this process may use."""
    loader: Literal["auto", "threads", "processes"] = "auto"
    """Who decodes training photographs, with the same result: ``auto`` takes processes where more than four workers feed a
    GPU, because threads wait for one another there; they need Linux, and some 350 MB each."""

    def __post_init__(self) -> None:
        problems = Problems("data")
        problems.within("num_folds", self.num_folds, 2, 1000)
        problems.require(0 <= self.fold_seed <= MAX_SEED, "fold_seed", self.fold_seed, f"0 to {MAX_SEED}")
        problems.require(
            self.class_limit == 0 or 2 <= self.class_limit <= 1_000_000,
            "class_limit",
            self.class_limit,
            "0 (all), or 2 to 1000000",
        )
        problems.positive("max_megapixels", self.max_megapixels, MAX_MEGAPIXELS)
        problems.require(0 <= self.num_workers <= 256, "num_workers", self.num_workers, "0 (automatic) to 256")
        problems.raise_if_any()


@dataclass(frozen=True)
class HeadKind:
    """Where a head is built, and which keys it understands."""

    module: str
    """Has ``build_head``; see network/heads.py."""
    has_margin: bool
    has_subcenters: bool


HEADS = {
    "arcface": HeadKind("hectocar.network.arcface", has_margin=True, has_subcenters=True),
    "softmax": HeadKind("hectocar.network.softmax", has_margin=False, has_subcenters=False),
}


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    backbone: str = "convnext_base.clip_laion2b_augreg_ft_in12k_in1k_384"
    """Name of a timm model."""
    weights: str = "hub"
    """``hub`` (timm fetches them), ``none`` (random start), or the path of a local file with timm key names."""
    pool: Literal["gem", "avg"] = "gem"
    """Generalised-mean or plain average pooling over positions."""
    gem_p: float = 3.0
    """Start value of GeM's learnable exponent."""
    pool_stages: Literal[1, 2] = 1
    """1: pool the last feature map. 2: pool the last two stages, LayerNorm each, concatenate."""
    neck: Literal["none", "batchnorm"] = "none"
    """What stands between the pooled features and the head."""
    head: str = "arcface"
    """``arcface`` (sub-center ArcFace), or ``softmax``: a plain linear layer as the control."""
    num_subcenters: int = 3
    """ArcFace: centres per class (K)."""
    scale: float = 30.0
    """ArcFace: the factor s between cosine and logit."""
    drop_path_max: float = 0.1
    """Stochastic depth that the backbone is built with: timm's drop_path_rate, reached at the deepest block."""
    channels_last: bool = True
    """Memory format of images and convolutions."""
    compile: bool = False
    """Compile the backbone with torch.compile (needs a C compiler; pays on a GPU)."""

    def __post_init__(self) -> None:
        problems = Problems("network")
        problems.require(bool(self.backbone), "backbone", self.backbone, "a timm model name")
        problems.require(1.0 <= self.gem_p <= 20.0, "gem_p", self.gem_p, "1 to 20")
        problems.require(self.head in HEADS, "head", self.head, list_choices(self.head, HEADS))
        problems.require(1 <= self.num_subcenters <= 32, "num_subcenters", self.num_subcenters, "1 to 32")
        problems.positive("scale", self.scale, 1000)
        problems.require(0.0 <= self.drop_path_max < 1.0, "drop_path_max", self.drop_path_max, "0 up to, not including, 1")
        problems.raise_if_any()


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Training augmentation. Each range is symmetric around "no change"; 0 switches the part off."""

    crop_scale: tuple[float, float] = (0.6, 1.0)
    """RandomResizedCrop: area of the crop as a fraction of the photograph's."""
    crop_ratio: tuple[float, float] = (0.75, 1.333)
    """RandomResizedCrop: width / height of the crop."""
    crop_ratio_of: Literal["pixels", "photo"] = "pixels"
    """``pixels``: the ratio is absolute, as torchvision's. ``photo``: relative to the photograph's own, so that a wide
    photograph is cropped wide."""
    brightness: float = 0.4
    """ColorJitter: factor drawn from 1 - b to 1 + b."""
    contrast: float = 0.4
    """ColorJitter: factor drawn from 1 - c to 1 + c."""
    saturation: float = 0.4
    """ColorJitter: factor drawn from 1 - s to 1 + s."""
    hue: float = 0.1
    """ColorJitter: shift in turns of the hue circle, at most 0.5."""
    shift: float = 0.05
    """Affine: translation as a fraction of the side."""
    scale: float = 0.1
    """Affine: zoom drawn from 1 - x to 1 + x."""
    rotate_degrees: float = 15.0
    """Affine: rotation."""
    affine_prob: float = 0.5
    """Probability that a photograph gets the affine."""
    color_prob: float = 0.5
    """Probability that a photograph gets the colour jitter."""
    flip_prob: float = 0.5
    """Probability of the horizontal mirror."""
    erase_prob: float = 0.5
    """CoarseDropout: probability of one erased square."""
    erase_side: tuple[float, float] = (0.10, 0.25)
    """CoarseDropout: side of the square as a fraction of the image's side."""
    drift_prob: float = 0.0
    """Probability that a photograph gets the tone curve of the audit's shift (``data.shift``), before any other colour."""
    drift_strength: tuple[float, float] = (0.5, 1.5)
    """Strength of that curve, drawn evenly: 0 leaves a photograph alone, 1 is the shift that the audit fitted."""

    def __post_init__(self) -> None:
        problems = Problems("augment")
        low, high = self.crop_scale
        problems.require(0.0 < low <= high <= 1.0, "crop_scale", self.crop_scale, "two numbers, 0 < low <= high <= 1")
        low, high = self.crop_ratio
        problems.require(0.01 <= low <= high <= 100.0, "crop_ratio", self.crop_ratio, "two numbers, 0.01 <= low <= high <= 100")
        low, high = self.erase_side
        problems.require(0.0 < low <= high <= 1.0, "erase_side", self.erase_side, "two numbers, 0 < low <= high <= 1")
        for name in (
            "brightness",
            "contrast",
            "saturation",
            "affine_prob",
            "color_prob",
            "flip_prob",
            "erase_prob",
            "drift_prob",
        ):
            problems.fraction(name, getattr(self, name))
        low, high = self.drift_strength
        problems.require(0.0 <= low <= high <= 3.0, "drift_strength", self.drift_strength, "two numbers, 0 <= low <= high <= 3")
        problems.require(0.0 <= self.hue <= 0.5, "hue", self.hue, "0 to 0.5 turns")
        problems.require(0.0 <= self.shift <= 0.5, "shift", self.shift, "0 to 0.5 of the side")
        problems.require(0.0 <= self.scale < 1.0, "scale", self.scale, "0 up to, not including, 1")
        problems.require(0.0 <= self.rotate_degrees <= 180.0, "rotate_degrees", self.rotate_degrees, "0 to 180")
        problems.raise_if_any()


@dataclass(frozen=True, kw_only=True)
class InferenceConfig:
    """How photographs reach the network in validation, prediction and service alike."""

    size_px: int = 0
    """Side of the square input; 0 means the size of the epoch (in training) or of the best checkpoint."""
    fit: Literal["stretch", "letterbox", "crop"] = "stretch"
    """How a photograph fills the square: stretched, whole with grey bars, or the middle of it."""
    batch_size: int = 64
    """Photographs per forward pass."""
    mirror: bool = False
    """Average the logits with those of the mirrored photograph."""

    def __post_init__(self) -> None:
        problems = Problems("inference")
        problems.require(self.size_px == 0 or 32 <= self.size_px <= 2048, "size_px", self.size_px, "0 or 32 to 2048")
        problems.require(1 <= self.batch_size <= 65536, "batch_size", self.batch_size, "1 to 65536")
        problems.raise_if_any()


@dataclass(frozen=True, kw_only=True)
class Config:
    data: DataConfig = field(default_factory=DataConfig)
    """Photographs and folds."""
    network: NetworkConfig = field(default_factory=NetworkConfig)
    """Backbone, pooling, head."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    """Random changes of training photographs."""
    training: TrainingConfig = field(default_factory=TrainingConfig)
    """Schedules and optimiser."""
    inference: InferenceConfig = field(default_factory=InferenceConfig)
    """Validation and prediction."""

    def __post_init__(self) -> None:
        problems, head = Problems("training"), HEADS[self.network.head]
        problems.require(
            self.training.noise_epoch == 0 or (head.has_subcenters and self.network.num_subcenters > 1),
            "noise_epoch",
            self.training.noise_epoch,
            "0, or network.head arcface with network.num_subcenters of 2 or more",
        )
        problems.require(
            not self.training.pretrained_mix or self.network.weights != "none",
            "pretrained_mix",
            self.training.pretrained_mix,
            "nothing when network.weights is 'none': there are no pretrained weights to mix in",
        )
        if not head.has_margin:
            problems.require(
                all(phase.margin_rad == 0.0 for phase in self.training.margins),
                "margins",
                [phase.margin_rad for phase in self.training.margins],
                f"margin_rad 0 in every phase when network.head is {self.network.head!r}, which has no margin",
            )
        problems.raise_if_any()

    def sections(self) -> Iterator[tuple[str, object]]:
        """Yields (name, section) in declaration order."""
        for name in self.__dataclass_fields__:
            yield name, getattr(self, name)
