"""hectocar: fine-grained car recognition from photographs.

>>> from hectocar import Classifier
>>> Classifier.load("bundle").predict("car.jpg").name  # doctest: +SKIP
"""

from typing import TYPE_CHECKING, Any

from hectocar.errors import ArtifactError, ConfigError, DataError, HectocarError

if TYPE_CHECKING:
    from hectocar.delivery.predictor import Classifier, Prediction

__all__ = ["ArtifactError", "Classifier", "ConfigError", "DataError", "HectocarError", "Prediction"]


def __getattr__(name: str) -> Any:
    # Torch is loaded when a name that needs it is asked for, so that `hectocar --help` answers at once.
    if name in ("Classifier", "Prediction"):
        from hectocar.delivery import predictor

        return getattr(predictor, name)
    raise AttributeError(f"module 'hectocar' has no attribute {name!r}")
