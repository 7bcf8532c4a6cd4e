"""Proportions of the body styles.

Lengths are metres. A name ending in `_u` is a place along the car, 0 at the nose and 1 at the tail; the axes of the
whole package are x forward, y to the left, z up, with the ground at z = 0 and the car's middle at x = 0.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

Floats = NDArray[np.float64]
BodyStyle = Literal["sedan", "hatchback", "coupe", "wagon", "suv", "pickup", "van", "convertible"]
BODY_STYLES: tuple[BodyStyle, ...] = get_args(BodyStyle)


@dataclass(frozen=True, kw_only=True)
class Shape:
    """The numbers from which a body is lofted."""

    length_m: float
    width_m: float
    height_m: float
    clearance_m: float
    wheel_radius_m: float
    front_axle_u: float
    rear_axle_u: float
    cowl_u: float
    """Where bonnet and windscreen meet."""
    header_u: float
    """Where windscreen and roof meet."""
    roof_end_u: float
    deck_u: float
    """Foot of the rear window."""
    nose_z_m: float
    cowl_z_m: float
    deck_z_m: float
    tail_z_m: float
    pillars_u: tuple[float, ...]
    """Pillars that divide the side windows, front to rear."""
    num_side_doors: int
    roof_drop_m: float = 0.05
    """How much lower the roof ends than its highest point."""
    tumblehome: float = 0.30
    """How much the cabin narrows per metre of height, on each side."""
    nose_round_m: float = 0.24
    """How far the corners of the nose lie behind its middle."""
    tail_round_m: float = 0.14
    nose_lean_m: float = 0.10
    """How far the bonnet's edge lies behind the bumper."""

    def x_at(self, u: float) -> float:
        """Metres along x of a place given as a share of the length."""
        return (0.5 - u) * self.length_m

    def top_z(self, u: Floats) -> Floats:
        """Height of the lower body's centre line: bonnet, belt, boot lid."""
        knots_u = [0.0, 0.45 * self.cowl_u, self.cowl_u, self.deck_u, 1.0]
        rise = self.cowl_z_m - self.nose_z_m
        knots_z = [self.nose_z_m, self.nose_z_m + 0.62 * rise, self.cowl_z_m, self.deck_z_m, self.tail_z_m]
        return np.asarray(PchipInterpolator(knots_u, knots_z)(np.clip(u, 0.0, 1.0)), dtype=np.float64)

    def shoulder_z(self, u: Floats) -> Floats:
        """Height of the edge between the car's flank and what lies on top of it."""
        return self.top_z(u) - 0.05 - 0.03 * np.exp(-((np.asarray(u) / 0.12) ** 2))

    def half_width(self, u: Floats) -> Floats:
        """Half of the body's width: a little narrower at both ends."""
        u = np.asarray(u, dtype=np.float64)
        taper = 1.0 - 0.075 * np.clip(1.0 - u / 0.22, 0.0, 1.0) ** 2 - 0.07 * np.clip((u - 0.8) / 0.2, 0.0, 1.0) ** 2
        return 0.5 * self.width_m * taper

    def roof_z(self, u: Floats) -> Floats:
        """Height of the cabin over the whole car, corners rounded; below the belt outside of the cabin."""
        grid = np.linspace(-0.1, 1.1, 481)
        middle = 0.5 * self.header_u + 0.5 * self.roof_end_u
        knots_u = [-0.1, self.cowl_u, self.header_u, middle, self.roof_end_u, self.deck_u, 1.1]
        low = self.cowl_z_m - 0.4
        knots_z = [
            low,
            self.cowl_z_m,
            self.height_m - 0.045,
            self.height_m,
            self.height_m - self.roof_drop_m,
            self.deck_z_m,
            low,
        ]
        sharp = np.interp(grid, knots_u, knots_z)
        kernel = np.hanning(25)
        smooth = np.convolve(np.pad(sharp, 12, mode="edge"), kernel / kernel.sum(), mode="valid")
        return np.interp(u, grid, smooth)


_SEDAN = Shape(
    length_m=4.75, width_m=1.84, height_m=1.45, clearance_m=0.19, wheel_radius_m=0.335,
    front_axle_u=0.185, rear_axle_u=0.78, cowl_u=0.27, header_u=0.43, roof_end_u=0.70, deck_u=0.87,
    nose_z_m=0.74, cowl_z_m=0.98, deck_z_m=1.05, tail_z_m=1.00, pillars_u=(0.525, 0.705), num_side_doors=2,
)  # fmt: skip
_HATCHBACK = Shape(
    length_m=4.15, width_m=1.78, height_m=1.50, clearance_m=0.19, wheel_radius_m=0.325,
    front_axle_u=0.185, rear_axle_u=0.82, cowl_u=0.24, header_u=0.40, roof_end_u=0.88, deck_u=0.975,
    nose_z_m=0.76, cowl_z_m=1.00, deck_z_m=1.06, tail_z_m=1.02, pillars_u=(0.55, 0.76), num_side_doors=2,
    roof_drop_m=0.09, tail_round_m=0.16,
)  # fmt: skip
_COUPE = Shape(
    length_m=4.50, width_m=1.87, height_m=1.30, clearance_m=0.15, wheel_radius_m=0.345,
    front_axle_u=0.19, rear_axle_u=0.79, cowl_u=0.33, header_u=0.48, roof_end_u=0.66, deck_u=0.93,
    nose_z_m=0.66, cowl_z_m=0.90, deck_z_m=0.97, tail_z_m=0.92, pillars_u=(0.68,), num_side_doors=1,
    roof_drop_m=0.05, tumblehome=0.40, nose_round_m=0.30, nose_lean_m=0.16,
)  # fmt: skip
_WAGON = Shape(
    length_m=4.80, width_m=1.83, height_m=1.47, clearance_m=0.19, wheel_radius_m=0.335,
    front_axle_u=0.185, rear_axle_u=0.77, cowl_u=0.27, header_u=0.41, roof_end_u=0.90, deck_u=0.985,
    nose_z_m=0.74, cowl_z_m=0.98, deck_z_m=1.05, tail_z_m=1.01, pillars_u=(0.51, 0.69, 0.80), num_side_doors=2,
    roof_drop_m=0.06,
)  # fmt: skip
_SUV = Shape(
    length_m=4.65, width_m=1.90, height_m=1.70, clearance_m=0.25, wheel_radius_m=0.375,
    front_axle_u=0.19, rear_axle_u=0.79, cowl_u=0.25, header_u=0.37, roof_end_u=0.90, deck_u=0.98,
    nose_z_m=0.99, cowl_z_m=1.16, deck_z_m=1.20, tail_z_m=1.14, pillars_u=(0.49, 0.68, 0.82), num_side_doors=2,
    roof_drop_m=0.08, tumblehome=0.26, nose_lean_m=0.07,
)  # fmt: skip
_PICKUP = Shape(
    length_m=5.25, width_m=1.93, height_m=1.80, clearance_m=0.30, wheel_radius_m=0.395,
    front_axle_u=0.175, rear_axle_u=0.775, cowl_u=0.24, header_u=0.335, roof_end_u=0.555, deck_u=0.595,
    nose_z_m=1.05, cowl_z_m=1.22, deck_z_m=1.22, tail_z_m=1.19, pillars_u=(0.435,), num_side_doors=2,
    roof_drop_m=0.03, tumblehome=0.25, nose_round_m=0.16, nose_lean_m=0.05, tail_round_m=0.06,
)  # fmt: skip
_VAN = Shape(
    length_m=4.95, width_m=1.94, height_m=1.95, clearance_m=0.22, wheel_radius_m=0.345,
    front_axle_u=0.17, rear_axle_u=0.79, cowl_u=0.135, header_u=0.285, roof_end_u=0.955, deck_u=0.99,
    nose_z_m=0.98, cowl_z_m=1.13, deck_z_m=1.16, tail_z_m=1.12, pillars_u=(0.385, 0.60, 0.80), num_side_doors=2,
    roof_drop_m=0.02, tumblehome=0.16, nose_round_m=0.22, tail_round_m=0.07,
)  # fmt: skip
_CONVERTIBLE = Shape(
    length_m=4.35, width_m=1.83, height_m=1.28, clearance_m=0.16, wheel_radius_m=0.335,
    front_axle_u=0.185, rear_axle_u=0.79, cowl_u=0.32, header_u=0.445, roof_end_u=0.47, deck_u=0.76,
    nose_z_m=0.68, cowl_z_m=0.92, deck_z_m=0.97, tail_z_m=0.92, pillars_u=(), num_side_doors=1,
    tumblehome=0.34, nose_round_m=0.28, nose_lean_m=0.14,
)  # fmt: skip

STANDARD_SHAPES: dict[BodyStyle, Shape] = {
    "sedan": _SEDAN,
    "hatchback": _HATCHBACK,
    "coupe": _COUPE,
    "wagon": _WAGON,
    "suv": _SUV,
    "pickup": _PICKUP,
    "van": _VAN,
    "convertible": _CONVERTIBLE,
}
