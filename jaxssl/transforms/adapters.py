"""Transforms in input pipelines that hand out NumPy generators."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def grain_map(fn: Callable[..., Any]) -> Callable[[Any, np.random.Generator], Any]:
    """Turn ``fn(key, element)`` into ``apply(element, rng)``, as Grain maps elements.

    For ``grain.MapDataset.random_map``, whose generators depend on the seed and on the
    element's place alone. On a CPU a call costs some 50 to 100 microseconds however
    small the work: prefer whole batches on the device, `jaxssl.transforms.batched`, and
    take this for what must happen before batching, such as crops of images that differ
    in size (each size compiles once).

    Args:
      fn: a function of a key and one element (an array or a pytree), such as
        ``jax.jit(random_warp)``; compiled by you, as what is static is yours to say.

    Returns:
      The function over elements. Its results are NumPy arrays, which batch and cross
      processes without a device.

    Example:
      >>> import jax, numpy as np
      >>> from jaxssl import transforms as T
      >>> apply = T.grain_map(jax.jit(T.random_hflip))
      >>> image, params = apply(np.zeros((4, 4, 3), np.uint8), np.random.default_rng(0))
      >>> type(image).__name__, image.dtype.name
      ('ndarray', 'uint8')
    """

    def apply(element: Any, rng: np.random.Generator) -> Any:
        bits = rng.integers(2**32, size=2, dtype=np.uint32)
        key = jax.random.wrap_key_data(jnp.asarray(bits), impl="threefry2x32")
        arrays = jax.tree.map(jnp.asarray, element)
        return jax.device_get(fn(key, arrays))

    return apply
