"""The invented models: one design per class name, in an order that puts facelifts and the equivalent pair early.

A facelift is the same car with one part changed, as in the contest, where a generation is often told from the next by
its grille or lamps alone. Names mix Korean and ASCII, so that code-point order and Unicode forms matter as they do there.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

from hectocar.errors import DataError
from hectocar.showroom.shapes import STANDARD_SHAPES, BodyStyle, Shape

Headlamp = Literal["almond", "slim", "boxy", "round", "split", "angular", "vertical", "quad"]
Grille = Literal["bars", "slots", "mesh", "kidney", "shield", "slit", "closed", "frame", "spindle"]
Taillamp = Literal["wedge", "band", "vertical", "twin_round", "boxes", "hook"]
Wheel = Literal["five", "ten", "twin_five", "y_spoke", "mesh", "disc", "turbine", "six"]

MIN_CLASSES, MAX_CLASSES = 2, 48
EQUIVALENT_PAIR = ("220_로시_쿠페_2015_2019", "로시_220_쿠페_2015_2019")
"""Two names of one car; both are among the first four of the catalogue."""


@dataclass(frozen=True, kw_only=True)
class CarDesign:
    """Everything that makes a class; what varies from photo to photo is in scene.py."""

    style: BodyStyle
    shape: Shape
    headlamp: Headlamp
    grille: Grille
    taillamp: Taillamp
    wheel: Wheel
    chrome_windows: bool = False
    black_roof: bool = False
    cladding: bool = False
    """Black plastic around the wheel arches and along the sill."""
    roof_rails: bool = False
    spoiler: bool = False


def _design(
    style: BodyStyle, headlamp: Headlamp, grille: Grille, taillamp: Taillamp, wheel: Wheel, trim: str = "", **shape: float
) -> CarDesign:
    """A design from a standard shape; `trim` is a few words, the flags of CarDesign."""
    flags = trim.split()
    return CarDesign(
        style=style,
        shape=replace(STANDARD_SHAPES[style], **shape),  # type: ignore[arg-type]  # only the float fields are given
        headlamp=headlamp,
        grille=grille,
        taillamp=taillamp,
        wheel=wheel,
        chrome_windows="chrome" in flags,
        black_roof="black_roof" in flags,
        cladding="cladding" in flags,
        roof_rails="rails" in flags,
        spoiler="spoiler" in flags,
    )


_S3 = _design("sedan", "almond", "bars", "wedge", "five", "chrome")
_X5 = _design("suv", "boxy", "kidney", "boxes", "twin_five", "rails")
_ROSI = _design("coupe", "slim", "mesh", "band", "ten", "spoiler", height_m=1.26)
_N1 = _design("hatchback", "round", "slit", "twin_round", "disc", length_m=3.85, height_m=1.56, nose_z_m=0.84)
_TRAIL = _design("pickup", "boxy", "frame", "vertical", "six", "cladding")
_CARGO = _design("van", "almond", "slit", "vertical", "disc")
_KESTREL = _design("convertible", "quad", "shield", "twin_round", "y_spoke", "chrome", length_m=4.6)
_T4 = _design("wagon", "angular", "kidney", "wedge", "ten", "rails chrome")
_Q7 = _design("suv", "slim", "shield", "band", "y_spoke", "chrome rails", length_m=5.0, height_m=1.76, cowl_u=0.26)
_L7 = _design("coupe", "angular", "spindle", "hook", "turbine", roof_end_u=0.71, height_m=1.34, length_m=4.7)
_MIR = _design("sedan", "slim", "frame", "boxes", "turbine", "chrome", length_m=4.98, height_m=1.49, roof_end_u=0.72)
_ROADSTER = _design("convertible", "round", "slit", "wedge", "mesh", length_m=4.0, cowl_u=0.36, header_u=0.47, roof_end_u=0.49)
_EV5 = _design("suv", "split", "closed", "band", "turbine", "black_roof cladding", nose_z_m=0.93, roof_end_u=0.84, deck_u=0.975)
_C2 = _design("hatchback", "almond", "kidney", "boxes", "five", "spoiler")
_W5 = _design("wagon", "slim", "bars", "hook", "twin_five", "chrome", roof_end_u=0.87)
_HAULER = _design("pickup", "vertical", "bars", "boxes", "five", "chrome", height_m=1.9, length_m=5.5, nose_z_m=1.14)
_KS = _design("sedan", "split", "mesh", "band", "y_spoke", "black_roof", roof_end_u=0.74, deck_u=0.92, height_m=1.41)
_DAON = _design("van", "vertical", "closed", "band", "ten", "black_roof", height_m=1.80, length_m=5.15)
_DOL = _design(
    "suv", "round", "slots", "vertical", "six", "cladding", length_m=4.2, height_m=1.82, header_u=0.34, nose_z_m=1.06
)
_R8 = _design(
    "coupe", "angular", "shield", "twin_round", "twin_five", "spoiler black_roof", cowl_u=0.29, header_u=0.43, height_m=1.22
)
_E2 = _design("hatchback", "quad", "closed", "vertical", "turbine", "black_roof", length_m=3.95, height_m=1.54)
_SAN = _design("suv", "angular", "spindle", "wedge", "five", "chrome cladding", height_m=1.62, length_m=4.4)

_MODELS: dict[str, CarDesign] = {
    "아르카_S3_세단_2016_2019": _S3,
    "Belmo_X5_SUV_2018_2022": _X5,
    EQUIVALENT_PAIR[1]: _ROSI,
    EQUIVALENT_PAIR[0]: _ROSI,
    "아르카_S3_세단_2020_2023": replace(_S3, grille="shield"),
    "누리_N1_해치백_2017_2021": _N1,
    "Vantor_Trail_픽업_2019_2024": _TRAIL,
    "한빛_카르고_밴_2014_2020": _CARGO,
    "Kestrel_GT_Convertible_2016_2022": _KESTREL,
    "Belmo_T4_Wagon_2015_2019": _T4,
    "누리_N1_해치백_2022_2024": replace(_N1, headlamp="boxy"),
    "Vantor_Q7_SUV_2016_2020": _Q7,
    "아르카_L7_쿠페_2018_2022": _L7,
    "한빛_미르_세단_2013_2017": _MIR,
    "Kestrel_Roadster_2012_2016": _ROADSTER,
    "Vantor_Q7_SUV_2021_2024": replace(_Q7, wheel="disc"),
    "누리_EV5_SUV_2022_2025": _EV5,
    "Belmo_C2_Hatchback_2012_2016": _C2,
    "한빛_미르_세단_2018_2021": replace(_MIR, headlamp="angular"),
    "아르카_W5_왜건_2017_2021": _W5,
    "Vantor_Hauler_Pickup_2011_2015": _HAULER,
    "Kestrel_S_세단_2020_2024": _KS,
    "한빛_다온_밴_2019_2023": _DAON,
    "도루_돌쇠_SUV_2010_2017": _DOL,
    "Belmo_X5_SUV_2023_2025": replace(_X5, grille="bars"),
    "로시_R8_쿠페_2017_2023": _R8,
    "아르카_E2_해치백_2021_2025": _E2,
    "도루_산_SUV_2018_2022": _SAN,
    "Kestrel_GT_Convertible_2023_2025": replace(_KESTREL, headlamp="slim"),
    "Vantor_Trail_픽업_2013_2018": replace(_TRAIL, grille="slots"),
    "도루_산_SUV_2023_2025": replace(_SAN, headlamp="split"),
    "누리_N3_세단_2015_2020": _design("sedan", "boxy", "slit", "vertical", "disc", length_m=4.4, height_m=1.50, deck_z_m=1.08),
    "Belmo_T4_Wagon_2020_2024": replace(_T4, headlamp="split"),
    "한빛_카르고_밴_2021_2025": replace(_CARGO, grille="frame"),
    "Belmo_C2_Hatchback_2017_2021": replace(_C2, wheel="mesh"),
    "아르카_L7_쿠페_2023_2025": replace(_L7, grille="frame"),
    "로시_Spider_컨버터블_2018_2023": _design("convertible", "vertical", "spindle", "hook", "twin_five", height_m=1.20),
    "도루_돌쇠_SUV_2018_2024": replace(_DOL, headlamp="quad"),
    "누리_EV5_SUV_2026": replace(_EV5, headlamp="vertical"),
    "Kestrel_S_세단_2025": replace(_KS, wheel="turbine"),
    "한빛_나래_왜건_2011_2015": _design("wagon", "boxy", "frame", "vertical", "six", "cladding rails", clearance_m=0.25),
    "Vantor_Hauler_Pickup_2016_2020": replace(_HAULER, grille="shield"),
    "로시_R8_쿠페_2024_2025": replace(_R8, headlamp="slim"),
    "Belmo_L9_세단_2019_2023": _design(
        "sedan", "quad", "kidney", "hook", "mesh", "chrome", length_m=5.2, width_m=1.92, nose_z_m=0.8
    ),
    "한빛_다온_밴_2024_2025": replace(_DAON, headlamp="slim"),
    "아르카_E2_해치백_2018_2020": replace(_E2, grille="bars"),
    "도루_벼리_쿠페_1998_2003": _design("coupe", "round", "slots", "boxes", "five", "chrome", height_m=1.36, tumblehome=0.3),
    "로시_Spider_컨버터블_2024": replace(_KESTREL, wheel="six", taillamp="band", grille="slit"),
}


@cache
def facelift_pairs() -> tuple[tuple[str, str], ...]:
    """Pairs of class names whose designs differ in exactly one part."""
    names = list(_MODELS)
    parts = list(CarDesign.__dataclass_fields__)
    pairs = []
    for index, first in enumerate(names):
        for second in names[index + 1 :]:
            changed = [part for part in parts if getattr(_MODELS[first], part) != getattr(_MODELS[second], part)]
            if len(changed) == 1:
                pairs.append((first, second))
    return tuple(pairs)


def catalogue() -> Mapping[str, CarDesign]:
    """Every class name with its design, in catalogue order."""
    return _MODELS


def class_names(num_classes: int) -> list[str]:
    """The first `num_classes` models of the catalogue, in code-point order.

    From four classes on they hold the equivalent pair, from five on a facelift pair.
    """
    if not MIN_CLASSES <= num_classes <= MAX_CLASSES:
        raise DataError(f"num_classes is {num_classes}; allowed: {MIN_CLASSES} to {MAX_CLASSES}")
    return sorted(list(_MODELS)[:num_classes])


def find_design(class_name: str) -> CarDesign:
    """The design of a class; raises DataError for a name that is not in the catalogue."""
    if class_name not in _MODELS:
        raise DataError(f"class name {class_name!r} is not in the showroom; allowed: one of {', '.join(sorted(_MODELS))}")
    return _MODELS[class_name]
