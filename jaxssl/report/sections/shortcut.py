"""Is a rotation read off the object, or off the background?"""

from collections.abc import Mapping, Sequence

from jaxssl.report.section import Section, shares
from jaxssl.run.read import Run

TITLE = "Shortcut check"
EVALUATIONS = ("shortcut",)

_BARS = {
    "composite": ("Whole images", "", None),
    "grey": ("Objects over plain grey", "at least", 0.75),
    "background_only": ("Backgrounds alone", "at most", 0.45),
}
"""Images by name: what they show, and the limit of the share named right."""


def make(
    run: Run, others: Mapping[str, Run], stored: Sequence[Mapping]
) -> Section | None:
    """Show the accuracy where one of object and background is taken away."""
    del others, stored
    right = shares(run, "shortcut")
    if not right:
        return None
    bars = []
    for name in sorted(right, key=[*_BARS, *right].index):
        label, sense, limit = _BARS.get(name, (name, "", None))
        bars.append((label, right[name], sense, limit))
    return Section("shortcut", TITLE, {"bars": bars}, EVALUATIONS)
