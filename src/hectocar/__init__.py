"""hectocar: fine-grained car recognition from photographs.

One verb per step, each of which takes paths and a configuration and returns a small result; see docs/python.md.

>>> from hectocar import Classifier
>>> Classifier.load("bundle").predict("car.jpg").name  # doctest: +SKIP
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from hectocar.errors import ArtifactError, ConfigError, DataError, HectocarError

if TYPE_CHECKING:
    from hectocar.delivery.prediction import Prediction
    from hectocar.delivery.predictor import Classifier
    from hectocar.progress import NoProgress
    from hectocar.showroom import ShowroomSpec, write_showroom
    from hectocar.verbs.answers import predict, score
    from hectocar.verbs.configuration import load_config
    from hectocar.verbs.photographs import audit, deal_folds, read_audit
    from hectocar.verbs.pictures import draw_photos, preview
    from hectocar.verbs.training import ablate, finish, train

__all__ = [
    "ArtifactError",
    "Classifier",
    "ConfigError",
    "DataError",
    "HectocarError",
    "NoProgress",
    "Prediction",
    "ShowroomSpec",
    "ablate",
    "audit",
    "deal_folds",
    "draw_photos",
    "finish",
    "load_config",
    "predict",
    "preview",
    "read_audit",
    "score",
    "train",
    "write_showroom",
]


_HOMES = {
    "Classifier": "hectocar.delivery.predictor",
    "Prediction": "hectocar.delivery.prediction",
    "NoProgress": "hectocar.progress",
    **dict.fromkeys(("ShowroomSpec", "write_showroom"), "hectocar.showroom"),
    "load_config": "hectocar.verbs.configuration",
    **dict.fromkeys(("audit", "deal_folds", "read_audit"), "hectocar.verbs.photographs"),
    **dict.fromkeys(("draw_photos", "preview"), "hectocar.verbs.pictures"),
    **dict.fromkeys(("train", "finish", "ablate"), "hectocar.verbs.training"),
    **dict.fromkeys(("predict", "score"), "hectocar.verbs.answers"),
}


def __getattr__(name: str) -> Any:
    # Torch is loaded when a name that needs it is asked for, so that `hectocar --help` answers at once.
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'hectocar' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
