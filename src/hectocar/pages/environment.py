"""The one Jinja2 environment: every value is escaped, an unknown one raises, and no text of a stranger is a template.

Names of files, classes and folders come from strangers. They reach a template as values only; what is marked as HTML are the
templates themselves, never a value: neither ``|safe`` nor ``Markup`` stands anywhere.
"""

import math
import re

from jinja2 import Environment, PackageLoader, StrictUndefined


def split_joints(text: str) -> list[str]:
    """Where a long name may break: after ``/`` and ``_``."""
    return re.split(r"(?<=[/_])", text)


def format_count(number: int, noun: str, plural: str = "") -> str:
    """``1 photograph``, ``1,234 photographs``."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def format_number(value: float) -> str:
    """Three digits, and no exponent where a person would write none."""
    if math.isnan(value):
        return "–"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


ENVIRONMENT = Environment(
    loader=PackageLoader("hectocar.pages"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
ENVIRONMENT.filters |= {"joints": split_joints, "counted": format_count, "short": format_number, "number": format}


def render(template: str, **values: object) -> str:
    """The text of a page.

    Args:
        template: A file of ``templates/``.
        values: What it names; plain data, every text of which is escaped.

    Raises:
        jinja2.UndefinedError: The template names what is not among the values.
    """
    return ENVIRONMENT.get_template(template).render(values)
