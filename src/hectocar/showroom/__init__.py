"""The showroom: renders invented cars into a data set with the contest's layout, and plants known faults in it."""

from hectocar.showroom.catalogue import EQUIVALENT_PAIR, class_names, facelift_pairs
from hectocar.showroom.dataset import write_showroom
from hectocar.showroom.photo import render_photo
from hectocar.showroom.spec import ShowroomSpec, ShowroomSummary

__all__ = [
    "EQUIVALENT_PAIR",
    "ShowroomSpec",
    "ShowroomSummary",
    "class_names",
    "facelift_pairs",
    "render_photo",
    "write_showroom",
]
