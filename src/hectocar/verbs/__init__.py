"""The public face: one verb per step, and the commands call the same ones. docs/python.md shows each.

Paths may be texts. ``config`` is a ``Config`` of ``load_config``, or the name of a preset. Verbs are silent unless a
``progress`` is given. Heavy rooms are imported inside, so that ``import hectocar`` answers at once.
"""
