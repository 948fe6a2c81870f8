"""Average pooling with windows that do not overlap, as the linear probes use it."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxssl.types import Array, Float


class Pool(NamedTuple):
    """A pooling whose stride equals its kernel.

    Attributes:
      size: side of the square window and its stride, in pixels; 1 keeps the map.
      padding: ``SAME`` keeps a window that sticks out and averages what is inside it;
        ``VALID`` leaves the rest of the map out.
    """

    size: int
    padding: str = "SAME"


def average_pool(x: Float[Array, "b h w c"], pool: Pool) -> Float[Array, "b i j c"]:
    """Average each window of a feature map.

    Written as a reshape and a mean, which is several times faster than
    ``lax.reduce_window`` on a CPU. As in TensorFlow, padded places are not counted, and
    ``SAME`` puts the odd row of padding at the bottom and at the right.

    Args:
      x: feature maps.
      pool: the window.

    Returns:
      Maps of ``ceil(side / size)`` (SAME) or ``side // size`` (VALID) cells a side.

    Raises:
      ValueError: the padding is unknown, or a VALID window is larger than the map.
    """
    if pool.size == 1:
        return x
    b, height, width, c = x.shape
    rows, columns = _windows(height, pool), _windows(width, pool)
    if pool.padding == "VALID":
        x = x[:, : rows.cells * pool.size, : columns.cells * pool.size]
    x = jnp.pad(x, ((0, 0), rows.padding, columns.padding, (0, 0)))
    x = x.reshape(b, rows.cells, pool.size, columns.cells, pool.size, c)
    counts = np.outer(rows.counts, columns.counts).astype(np.float32)
    return x.sum(axis=(2, 4)) / jnp.asarray(counts, x.dtype)[None, :, :, None]


class _Windows(NamedTuple):
    cells: int
    padding: tuple[int, int]
    counts: np.ndarray  # How many real pixels each window holds.


def _windows(side: int, pool: Pool) -> _Windows:
    size = pool.size
    if pool.padding == "VALID":
        if size > side:
            raise ValueError(
                f"A VALID window of {size} pixels does not fit a map of {side}; "
                "use SAME padding or a smaller window."
            )
        return _Windows(side // size, (0, 0), np.full(side // size, size))
    if pool.padding != "SAME":
        raise ValueError(f"padding is {pool.padding!r}; allowed: SAME, VALID.")
    cells = -(-side // size)
    before, after = (cells * size - side) // 2, -(-(cells * size - side) // 2)
    real = np.pad(np.ones(side, int), (before, after)).reshape(cells, size)
    return _Windows(cells, (before, after), real.sum(axis=1))
