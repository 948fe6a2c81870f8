"""Is a rotation read off the object, or off the background?"""

from jaxssl.report.section import Inputs, Section, shares

TITLE = "Shortcut check"
EVALUATIONS = ("shortcut",)

_BARS = {
    "composite": ("Whole images", "", None),
    "grey": ("Objects over plain grey", "at least", 0.75),
    "background_only": ("Backgrounds alone", "at most", 0.45),
}
"""Images by name: what they show, and the limit of the share named right."""


def make(inputs: Inputs) -> Section | None:
    """Show the accuracy where one of object and background is taken away."""
    run = inputs.run
    right = shares(run, "shortcut")
    if not right:
        return None
    bars = [
        (right[name], *_BARS.get(name, (name, "", None)))
        for name in sorted(right, key=[*_BARS, *right].index)
    ]
    return Section("shortcut", TITLE, {"bars": bars}, EVALUATIONS)
