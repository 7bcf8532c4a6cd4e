"""Colours of the materials and the light that falls on them.

Paint and glass mirror their surroundings: a bright sky, a dark skyline, the ground. That is most of what makes a shape
look like a car, and it costs two table look-ups per pixel.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hectocar.showroom.atlas import Material

Floats32 = NDArray[np.float32]
Rgb = tuple[float, float, float]
_TABLE = 256

# Base colour, share of diffuse light, mirror strength head on.
_SURFACES: dict[Material, tuple[Rgb, float, float]] = {
    Material.GLASS: ((0.05, 0.06, 0.07), 0.6, 0.30),
    Material.BLACK: ((0.055, 0.055, 0.06), 0.9, 0.035),
    Material.CHROME: ((0.55, 0.56, 0.58), 0.45, 0.60),
    Material.DARK: ((0.025, 0.025, 0.028), 0.8, 0.01),
    Material.LAMP: ((0.62, 0.65, 0.68), 0.55, 0.30),
    Material.LAMP_HOT: ((1.10, 1.10, 1.06), 0.75, 0.10),
    Material.AMBER: ((0.95, 0.48, 0.08), 0.9, 0.05),
    Material.RED: ((0.58, 0.03, 0.04), 0.9, 0.09),
    Material.RED_HOT: ((1.05, 0.16, 0.13), 0.95, 0.06),
    Material.PLATE: ((0.92, 0.92, 0.90), 0.9, 0.02),
    Material.PLATE_TEXT: ((0.10, 0.10, 0.12), 0.9, 0.02),
    Material.TYRE: ((0.065, 0.065, 0.07), 1.0, 0.01),
    Material.RIM: ((0.70, 0.71, 0.73), 0.75, 0.18),
    Material.RIM_SHADE: ((0.36, 0.37, 0.39), 0.8, 0.10),
    Material.WELL: ((0.015, 0.015, 0.017), 0.5, 0.0),
    Material.INTERIOR: ((0.07, 0.06, 0.055), 0.8, 0.01),
    Material.SEAT: ((0.30, 0.20, 0.14), 0.9, 0.02),
    Material.CLADDING: ((0.12, 0.12, 0.125), 0.95, 0.02),
    Material.HOLE: ((0.0, 0.0, 0.0), 0.0, 0.0),
    Material.RUBBER: ((0.035, 0.035, 0.038), 1.0, 0.01),
}


@dataclass(frozen=True)
class Light:
    """Surroundings of a car: tables (3, 256) over the height of a direction, straight down to straight up, and a sun."""

    ambient: Floats32
    mirror: Floats32
    sun_direction: Floats32
    sun_rgb: Floats32


def build_light(*, sky: Rgb, horizon: Rgb, ground: Rgb, skyline: float, sun: Rgb, sun_direction: Rgb) -> Light:
    """Tables of a scene; `skyline` is how dark houses and trees are in the paint's reflection, 0 to 1."""
    height = np.linspace(-1.0, 1.0, _TABLE)[:, None]
    sky_rgb, horizon_rgb, ground_rgb = (np.asarray(colour)[None, :] for colour in (sky, horizon, ground))
    upper = horizon_rgb + (sky_rgb - horizon_rgb) * np.clip(height, 0.0, 1.0) ** 0.6
    lower = ground_rgb * (1.0 - 0.45 * np.clip(-height, 0.0, 1.0))
    blend = _smooth_step(height, 0.20, 0.30)
    dark = 1.0 - skyline * _smooth_step(height, -0.08, 0.0)
    mirror = blend * upper + (1.0 - blend) * lower * dark
    mix = 0.5 + 0.5 * height
    ambient = (0.62 * sky_rgb + 0.38 * horizon_rgb) * mix + 0.72 * ground_rgb * (1.0 - mix)
    direction = np.asarray(sun_direction) / np.linalg.norm(sun_direction)
    return Light(*(np.ascontiguousarray(a, dtype=np.float32) for a in (ambient.T, mirror.T, direction, np.asarray(sun))))


def _smooth_step(value: NDArray[np.float64], low: float, high: float) -> NDArray[np.float64]:
    share = np.clip((value - low) / (high - low), 0.0, 1.0)
    return share * share * (3.0 - 2.0 * share)


def surface_tables(paint: Rgb, gloss: float) -> tuple[Floats32, Floats32]:
    """Per material, diffuse colour (3, M) and mirror strength (M,), given the car's paint."""
    diffuse = np.zeros((3, len(Material)), dtype=np.float32)
    mirror = np.zeros(len(Material), dtype=np.float32)
    for material, (colour, share, strength) in _SURFACES.items():
        diffuse[:, material] = np.asarray(colour) * share
        mirror[material] = strength
    for material, factor in (
        (Material.BODY, 1.0),
        (Material.BODY_CREASE, 0.70),
        (Material.BODY_LIGHT, 1.12),
        (Material.GAP, 0.26),
    ):
        diffuse[:, material] = np.asarray(paint) * 0.92 * factor
        mirror[material] = gloss if material is not Material.GAP else 0.01
    return diffuse, mirror


def shade(material: NDArray[np.uint8], normals: Floats32, to_eye: Floats32, light: Light, diffuse: Floats32,
          mirror: Floats32) -> Floats32:  # fmt: skip
    """Colours (3, P), 0..1 and beyond, of P points; normals and directions to the eye are unit rows of (3, P)."""
    facing = np.einsum("kp,kp->p", normals, to_eye)
    np.clip(facing, 0.0, 1.0, out=facing)
    sun_cosine = light.sun_direction @ normals
    glint = 2.0 * facing * sun_cosine - light.sun_direction @ to_eye
    np.clip(glint, 0.0, 1.0, out=glint)
    for _ in range(5):
        glint *= glint
    np.clip(sun_cosine, 0.0, 1.0, out=sun_cosine)
    scale = np.float32(0.5 * (_TABLE - 1))
    up_at = ((normals[2] + 1.0) * scale).astype(np.intp)
    mirror_at = np.clip((2.0 * facing * normals[2] - to_eye[2] + 1.0) * scale, 0, _TABLE - 1).astype(np.intp)
    surface = material.astype(np.intp)
    strength = mirror.take(surface)
    edge = 1.0 - facing
    edge2 = edge * edge
    strength += 0.55 * np.minimum(1.0, 6.0 * strength) * (edge2 * edge2 * edge)
    rest = 1.0 - strength
    glint *= 1.6 * strength
    colour = np.empty((3, len(surface)), dtype=np.float32)
    for channel in range(3):
        incoming = light.ambient[channel].take(up_at)
        incoming += sun_cosine * light.sun_rgb[channel]
        incoming *= diffuse[channel].take(surface)
        incoming *= rest
        incoming += light.mirror[channel].take(mirror_at) * strength
        incoming += glint * light.sun_rgb[channel]
        colour[channel] = incoming
    return colour
