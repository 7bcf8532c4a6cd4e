"""How much is asked of a bundle: the views and folds that are chosen, and what they cost."""

from dataclasses import replace
from typing import TYPE_CHECKING

from hectocar.calibration.chain import Level
from hectocar.delivery.members import BundleSpec
from hectocar.errors import ConfigError

if TYPE_CHECKING:
    from hectocar.delivery.predictor import Classifier


def describe_choice(classifier: "Classifier") -> str:
    """What is asked of each photograph, what it costs, and what loss to expect."""
    level, num_networks = classifier.level, len(classifier.members)
    views = level.views if level else tuple(view.name for view in classifier.views_of(classifier.spec.members[0]))
    work = f"{classifier.cost:.1f} plain views of one network"
    asked = f"{num_networks} networks x {len(views)} views ({', '.join(views)}): {work}"
    if level is None:
        return f"{asked}; nothing is fitted, see `hectocar finish`"
    per_model = num_networks / len(classifier.spec.models)
    more = "; the mean of the folds is usually lower, which out-of-fold answers cannot show" if per_model > 1 else ""
    losses = f"expected log loss {_join_figures(*level.expected.describe())}, of one network per model and photograph{more}"
    lines = [asked, losses]
    if level.expected.clean_trusted is not None:
        trusted = _join_figures(*level.expected.describe_trusted())
        lines.append(
            f"without the {level.expected.num_suspects} photographs that the audit suspects (label or content): {trusted}; "
            "expect a loss between the two where labels are right"
        )
    return "\n".join(lines)


def _join_figures(clean: str, shifted: str) -> str:
    return clean if shifted == "-" else f"{clean}, {shifted} shifted like the test set"


def choose_level(spec: BundleSpec, num_views: int | None) -> Level | None:
    """What was fitted for so many views.

    Raises:
        ConfigError: The number is not positive, or the bundle was not finished and has its own views only.
    """
    if num_views is not None and num_views < 1:
        raise ConfigError(f"--views is {num_views}; allowed: 1 or more")
    if spec.finish is None:
        if num_views is not None:
            raise ConfigError(f"--views: {spec.folder} has no fitted views; `hectocar finish RUN --out BUNDLE` fits them")
        return None
    return spec.finish.choose(num_views)


def choose_folds(spec: BundleSpec, num_folds: int | None) -> BundleSpec:
    """With the first so many folds of each model only.

    Raises:
        ConfigError: Not positive, or more than there are.
    """
    if num_folds is None:
        return spec
    most = max(sum(member.model == number for member in spec.members) for number in range(len(spec.models)))
    if not 1 <= num_folds <= most:
        raise ConfigError(f"--folds is {num_folds}; allowed: 1 to {most}, the networks of a model in {spec.folder}")
    kept = [
        member
        for number in range(len(spec.models))
        for member in [other for other in spec.members if other.model == number][:num_folds]
    ]
    return replace(spec, members=tuple(kept))
