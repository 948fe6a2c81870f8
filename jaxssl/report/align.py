"""Find the part of an original that a view was cut from, to show what changed."""

import numpy as np

TURNS = {"rot90": 1, "rot180": 2, "rot270": 3}
"""Quarter turns, counter-clockwise, by the name of the transformation."""


def difference(original: np.ndarray, view: np.ndarray, name: str) -> np.ndarray:
    """Return the absolute difference of a view from where it was cut.

    Every view has its own random crop and flip. They are undone first: the difference
    is taken from the window of the original, mirrored or not, that fits best. A turned
    view is turned back for the search only, so that its turn shows.

    Args:
      original: uint8 (h, w, c), values in [0, 255].
      view: uint8 (s, t, c) with s <= h and t <= w.
      name: the transformation, such as "rot90".

    Returns:
      uint8 (s, t, c).
    """
    upright = np.rot90(view, -TURNS.get(name, 0))
    window = best_window(original, upright)
    if window.shape != view.shape:  # A turned view that is not square.
        window = np.rot90(window, TURNS.get(name, 0))
    return np.abs(window.astype(np.int16) - view.astype(np.int16)).astype(np.uint8)


def fits(original: np.ndarray, view: np.ndarray) -> bool:
    """Whether ``view`` can be a window of ``original`` at any quarter turn."""
    return max(view.shape[:2]) <= min(original.shape[:2])


def best_window(original: np.ndarray, view: np.ndarray) -> np.ndarray:
    """Return the window of ``original``, mirrored or not, that is nearest to ``view``.

    Args:
      original: (h, w, c), values in [0, 255].
      view: (s, t, c) with s <= h and t <= w.

    Returns:
      An array like ``view``, of the original's type.
    """
    height, width = view.shape[:2]
    errors = np.stack([_errors(original, view), _errors(original, view[:, ::-1])])
    mirrored, top, left = np.unravel_index(int(errors.argmin()), errors.shape)
    window = original[top : top + height, left : left + width]
    return window[:, ::-1] if mirrored else window


def _errors(original: np.ndarray, view: np.ndarray) -> np.ndarray:
    """Return the squared distance to each window, less the constant ``|view|**2``."""
    full = original.astype(np.float64)
    (rows, columns), (height, width) = full.shape[:2], view.shape[:2]
    spectrum = np.fft.rfft2(full, axes=(0, 1))
    other = np.fft.rfft2(view.astype(np.float64), s=(rows, columns), axes=(0, 1))
    matched = np.fft.irfft2(spectrum * other.conj(), s=(rows, columns), axes=(0, 1))
    area = np.zeros((rows + 1, columns + 1))
    area[1:, 1:] = (full**2).sum(-1).cumsum(0).cumsum(1)
    energy = (
        area[height:, width:]
        - area[:-height, width:]
        - area[height:, :-width]
        + area[:-height, :-width]
    )
    return energy - 2.0 * matched.sum(-1)[: rows - height + 1, : columns - width + 1]
