"""Equations 8.8 to 8.11 written out in float64 NumPy, with loops, as an oracle."""

import numpy as np


def raw_weights(val, train, *, lam=1.0, mu=0.01):
    """Write eq. 8.10 out, before the normalisation."""
    raw = []
    for g in train:
        dot = sum(float(a) * float(b) for a, b in zip(val, g, strict=True))
        square = sum(float(a) * float(a) for a in g)
        raw.append(dot / (square / lam + mu))
    return np.array(raw)


def exact_weights(val, train, *, lam=1.0, mu=0.01):
    """Solve eq. 8.8 by Gauss-Seidel, the thesis' suggestion, before normalising."""
    val, train = np.asarray(val, np.float64), np.asarray(train, np.float64)
    gram, dots = train @ train.T, train @ val
    w = np.zeros(len(train))
    for _ in range(10_000):
        before = w.copy()
        for i in range(len(w)):
            others = sum(w[j] * gram[j, i] for j in range(len(w)) if j != i) / lam
            w[i] = (dots[i] - others) / (gram[i, i] / lam + mu)
        if np.abs(w - before).max() <= 1e-15 * np.abs(w).max():
            break
    return w


def normalised(raw):
    return raw / np.abs(raw).sum()


def update(weights, train):
    """Return the sum of eq. 8.11."""
    total = np.zeros(len(train[0]))
    for w, g in zip(weights, np.asarray(train, np.float64), strict=True):
        total += w * g
    return total
