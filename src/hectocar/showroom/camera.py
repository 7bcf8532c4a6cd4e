"""The camera: where it stands, and how it maps metres to pixels."""

from dataclasses import dataclass

import numpy as np

from hectocar.showroom.shapes import Floats


@dataclass(frozen=True, kw_only=True)
class View:
    """What a photographer chooses."""

    azimuth_deg: float
    """0 looks at the nose, 90 at the left flank, 180 at the tail."""
    elevation_deg: float = 8.0
    distance_lengths: float = 1.6
    """Distance from the car's middle in car lengths; near means strong perspective."""
    roll_deg: float = 0.0
    fill: float = 0.9
    """Share of the frame that the car takes up, in the direction in which it is tighter."""
    shift_x: float = 0.0
    """How far the car stands from the frame's middle, in shares of the room that is left."""
    shift_y: float = 0.3


@dataclass(frozen=True)
class Camera:
    """A placed camera: `axes` holds right, up and forward as rows; the picture's scale is in pixels per unit of x / depth."""

    eye: Floats
    axes: Floats
    scale_px: float
    centre_px: tuple[float, float]

    def project(self, points: Floats) -> tuple[Floats, Floats, Floats]:
        """Column, row and depth of points (..., 3); rows grow downwards."""
        # One flat product: a stack of small ones is ten times slower.
        flat = (points.reshape(-1, 3) - self.eye) @ self.axes.T
        right, up, depth = flat.T.reshape(3, *points.shape[:-1])
        depth = np.maximum(depth, 0.05)
        return self.centre_px[0] + self.scale_px * right / depth, self.centre_px[1] - self.scale_px * up / depth, depth

    def horizon_row(self) -> float:
        """Row of the horizon at the picture's middle."""
        flat = self.axes[2] * np.array([1.0, 1.0, 0.0])
        _, up, depth = self.axes @ (flat / np.linalg.norm(flat))
        return float(self.centre_px[1] - self.scale_px * up / depth)


def _axes(view: View) -> Floats:
    azimuth, elevation, roll = np.radians([view.azimuth_deg, view.elevation_deg, view.roll_deg])
    forward = -np.array([np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)])
    right = np.cross(forward, np.array([0.0, 0.0, 1.0]))
    right /= np.linalg.norm(right)
    up = np.cross(right, forward)
    return np.stack([np.cos(roll) * right + np.sin(roll) * up, np.cos(roll) * up - np.sin(roll) * right, forward])


def place_camera(view: View, size_m: tuple[float, float, float], width_px: int, height_px: int) -> Camera:
    """Point a camera at a car of a given length, width and height so that the whole car is in the frame."""
    length, width, height = size_m
    axes = _axes(view)
    eye = np.array([0.0, 0.0, 0.45 * height]) - axes[2] * view.distance_lengths * max(length, 4.2)
    # A box would overstate the cabin: its upper edge is only as long as a roof.
    low = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-0.46, 0.46) for z in (0.0, 0.6)])
    roof = np.array([[x, y, 1.0] for x in (-0.3, 0.2) for y in (-0.33, 0.33)])
    box = np.concatenate([low, roof]) * np.array([length, width, height])
    x, y, _ = Camera(eye, axes, 1.0, (0.0, 0.0)).project(box)
    scale = view.fill * min(width_px / (x.max() - x.min()), height_px / (y.max() - y.min()))
    room_x = width_px - scale * (x.max() - x.min())
    room_y = height_px - scale * (y.max() - y.min())
    left = 0.5 * room_x * (1.0 + view.shift_x)
    top = 0.5 * room_y * (1.0 + view.shift_y)
    return Camera(eye, axes, float(scale), (float(left - scale * x.min()), float(top - scale * y.min())))
