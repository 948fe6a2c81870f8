"""Features whose classes are known."""

import numpy as np

from jaxssl.evals.feature_bank import Features


def clusters(count: int, *, seed: int, width: int = 6) -> Features:
    """Three overlapping classes; the endpoint "noise" says nothing about them."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, count).astype(np.int32)
    centres = np.random.default_rng(99).normal(size=(3, width))
    x = (centres[labels] + rng.normal(size=(count, width))).astype(np.float32)
    noise = rng.normal(size=(count, 4)).astype(np.float32)
    return Features({"conv5": x, "noise": noise}, labels, np.arange(count))
