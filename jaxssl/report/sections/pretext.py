"""The task of chapter 4: which transformation was applied to an image?"""

from typing import Any

import numpy as np

from jaxssl.report import align, figures
from jaxssl.report.section import Inputs, Section
from jaxssl.run.read import Run

TITLE = "The task"
EVALUATIONS = ("pretext",)

TRANSFORMATIONS = frozenset({"none", "rot90", "rot180", "rot270", "warp", "lci"})
"""Classes of chapter 4; what this section says holds for no other pretext task."""

_EXAMPLES = 4
_ARRAYS = ("gallery", "gallery_original", "confusion", "names")


def make(inputs: Inputs) -> Section | None:
    """Show the transformations, and which one is taken for which."""
    run = inputs.run
    evaluation = run.evals.get("pretext")
    if evaluation is None or any(name not in evaluation.arrays for name in _ARRAYS):
        return None
    if not classes(run):
        return None
    views, originals, counts, names = (evaluation.arrays[name] for name in _ARRAYS)
    context = {
        "names": [str(name) for name in names],
        "rows": _gallery(originals[:_EXAMPLES], views[:_EXAMPLES], names),
        "small": figures.is_small(views),
        **_confusion(counts.astype(np.float64), names),
    }
    return Section("pretext", TITLE, context, EVALUATIONS)


def classes(run: Run) -> list[str]:
    """Return the transformations of chapter 4 that a run recognises, if it does."""
    evaluation = run.evals.get("pretext")
    names = evaluation.arrays.get("names") if evaluation is not None else None
    if names is None:
        names = run.setting("method.classes") or ()
    names = [str(name) for name in names]
    return names if TRANSFORMATIONS.issuperset(names) else []


def _gallery(
    originals: np.ndarray, views: np.ndarray, names: np.ndarray
) -> list[dict[str, Any]]:
    """Show originals, each transformation of them and the absolute difference."""
    return [
        {
            "original": figures.png(original),
            "cells": [
                (figures.png(view), _difference(original, view, str(name)))
                for view, name in zip(transformed, names, strict=False)
            ],
        }
        for original, transformed in zip(originals, views, strict=False)
    ]


def _difference(original: np.ndarray, view: np.ndarray, name: str) -> str:
    fits = align.fits(original, view)
    return figures.png(align.difference(original, view, name)) if fits else ""


def _confusion(counts: np.ndarray, names: np.ndarray) -> dict[str, Any]:
    """Show which transformation is taken for which, in shares of each true one."""
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1.0)
    wrong = shares - np.diag(np.diag(shares))
    true, taken = np.unravel_index(int(wrong.argmax()), wrong.shape)
    return {
        "shares": shares.tolist(),
        "counts": counts.astype(int).tolist(),
        "accuracy": float(np.trace(counts) / max(counts.sum(), 1.0)),
        "worst": (str(names[true]), str(names[taken]), float(wrong[true, taken])),
    }
