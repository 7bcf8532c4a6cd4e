"""Chance in one place: view, paint, light and surroundings of a photo, drawn from a seed alone.

No draw depends on the class, so that two classes with the same seed give the same photo but for what differs on the car.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from hectocar.showroom.camera import View
from hectocar.showroom.render import CarLook
from hectocar.showroom.shading import Light, Rgb, build_light

Place = Literal["street", "parking", "showroom", "field", "coast"]
PLACES: tuple[Place, ...] = get_args(Place)

_PAINTS: tuple[tuple[Rgb, float, float], ...] = (
    ((0.86, 0.86, 0.85), 0.07, 4.0),
    ((0.58, 0.60, 0.62), 0.22, 3.0),
    ((0.30, 0.31, 0.33), 0.20, 3.0),
    ((0.05, 0.05, 0.055), 0.22, 3.0),
    ((0.60, 0.04, 0.05), 0.14, 2.0),
    ((0.06, 0.14, 0.42), 0.18, 2.0),
    ((0.10, 0.34, 0.62), 0.12, 1.0),
    ((0.04, 0.20, 0.14), 0.18, 1.0),
    ((0.85, 0.60, 0.06), 0.08, 0.7),
    ((0.78, 0.30, 0.05), 0.09, 0.7),
    ((0.34, 0.24, 0.17), 0.18, 0.8),
    ((0.66, 0.61, 0.50), 0.12, 1.0),
)
"""Colour, gloss, how common."""

# Azimuth range in degrees and how common: buyers' photos show the nose far more often than the tail.
_VIEWS = ((22.0, 62.0, 0.66), (0.0, 18.0, 0.08), (76.0, 102.0, 0.10), (120.0, 158.0, 0.16))

_SKIES: tuple[tuple[Rgb, Rgb, Rgb], ...] = (
    ((0.36, 0.56, 0.86), (0.86, 0.92, 0.98), (0.62, 0.58, 0.50)),
    ((0.66, 0.71, 0.77), (0.88, 0.90, 0.92), (0.20, 0.20, 0.20)),
    ((0.50, 0.56, 0.70), (1.00, 0.86, 0.68), (0.70, 0.50, 0.30)),
    ((0.44, 0.62, 0.80), (0.93, 0.95, 0.97), (0.50, 0.48, 0.44)),
)
"""Zenith, horizon and sun of clear, overcast, evening and hazy days."""


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Everything about a photo but the car and the size."""

    view: View
    look: CarLook
    light: Light
    place: Place
    sky: Rgb
    horizon: Rgb
    ground: Rgb
    backdrop_seed: int
    exposure: float = 1.0
    white_balance: Rgb = (1.0, 1.0, 1.0)
    grain: float = 0.012
    shadow: float = 0.6


def _draw_view(rng: np.random.Generator) -> View:
    low, high, _ = _VIEWS[int(rng.choice(len(_VIEWS), p=[share for *_, share in _VIEWS]))]
    side = -1.0 if rng.random() < 0.5 else 1.0
    return View(
        azimuth_deg=side * float(rng.uniform(low, high)),
        elevation_deg=float(rng.uniform(3.5, 15.0)),
        distance_lengths=float(rng.uniform(1.25, 2.6)),
        roll_deg=float(rng.normal(0.0, 0.8)),
        fill=float(rng.uniform(0.78, 0.97)),
        shift_x=float(rng.uniform(-0.7, 0.7)),
        shift_y=float(rng.uniform(-0.1, 0.6)),
    )


def _tint(colour: Rgb, rng: np.random.Generator, amount: float) -> Rgb:
    """Mostly lighter or darker, and a fifth of it another hue: a grey road must not turn purple."""
    common = 1.0 + rng.normal(0.0, amount)
    red, green, blue = (float(np.clip(c * common * (1.0 + rng.normal(0.0, 0.2 * amount)), 0.0, 1.0)) for c in colour)
    return red, green, blue


_GROUNDS: dict[Place, Rgb] = {
    "street": (0.42, 0.42, 0.43),
    "parking": (0.37, 0.37, 0.38),
    "showroom": (0.62, 0.61, 0.60),
    "field": (0.42, 0.43, 0.28),
    "coast": (0.60, 0.55, 0.46),
}


def draw_scene(rng: np.random.Generator) -> Scene:
    """A random photo's circumstances."""
    view = _draw_view(rng)
    shares = np.array([share for *_, share in _PAINTS])
    paint, gloss, _ = _PAINTS[int(rng.choice(len(_PAINTS), p=shares / shares.sum()))]
    look = CarLook(_tint(paint, rng, 0.07), gloss)
    place = PLACES[int(rng.choice(len(PLACES), p=(0.28, 0.28, 0.16, 0.16, 0.12)))]
    sky, horizon, sun = _SKIES[int(rng.integers(len(_SKIES)))]
    sky, horizon, ground = _tint(sky, rng, 0.04), _tint(horizon, rng, 0.03), _tint(_GROUNDS[place], rng, 0.06)
    sun_turn = float(rng.uniform(-80.0, 80.0)) + view.azimuth_deg
    if place == "showroom":
        sky, horizon, sun = (0.90, 0.90, 0.90), (0.86, 0.86, 0.87), (0.22, 0.22, 0.22)
    direction = (float(np.cos(np.radians(sun_turn))), float(np.sin(np.radians(sun_turn))), float(rng.uniform(0.7, 1.8)))
    warmth = float(rng.normal(0.0, 0.04))
    return Scene(
        view=view,
        look=look,
        light=build_light(sky=sky, horizon=horizon, ground=ground, skyline=0.55, sun=sun, sun_direction=direction),
        place=place,
        sky=sky,
        horizon=horizon,
        ground=ground,
        backdrop_seed=int(rng.integers(2**31)),
        exposure=1.12 * float(np.exp(rng.normal(0.0, 0.17))),
        white_balance=(1.0 + warmth, 1.0, 1.0 - warmth),
        grain=float(rng.uniform(0.003, 0.018)),
        shadow=0.45 if sun[0] < 0.3 else float(rng.uniform(0.55, 0.75)),
    )


def draw_size(rng: np.random.Generator, long_edge_px: int) -> tuple[int, int]:
    """Width and height of a photo: mostly around 3:2, one in ten upright."""
    long_px = long_edge_px * float(rng.uniform(0.8, 1.2))
    short_px = long_px / float(rng.uniform(1.32, 1.72))
    upright = rng.random() < 0.1
    width, height = (short_px / 0.85, long_px) if upright else (long_px, short_px)
    return max(16, round(width)), max(16, round(height))
