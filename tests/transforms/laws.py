"""What the law suite needs to know of a transform, and the tools of its laws.

`Example` is one way to call a public function. The tables are in ``examples_*.py``, one
module a group; `tests.transforms.test_transform_laws` joins them and holds the laws.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

SIDE = 10
CROP = (6, 7)
MANY_DTYPES = (jnp.uint8, jnp.bool_, jnp.bfloat16)
"""For transforms that move pixels and never look at their values."""


def image(dtype=jnp.float32, lead: tuple[int, ...] = (), seed: int = 0):
    """Return a random image (*lead, SIDE, SIDE, 3) of full range."""
    return pixels((SIDE, SIDE, 3), dtype, lead, seed)


def pixels(shape, dtype=jnp.float32, lead: tuple[int, ...] = (), seed: int = 0):
    """Return random values: in [0, 1], in [0, 255] for integers, or bits."""
    values = np.random.default_rng(seed).uniform(size=(*lead, *shape))
    if dtype == jnp.bool_:
        return jnp.array(values > 0.5)
    scale = 1 if jnp.issubdtype(dtype, jnp.floating) else 255
    return jnp.array(scale * values).astype(dtype)


def nothing(dtype=jnp.float32, lead: tuple[int, ...] = (), seed: int = 0):
    """Return the data of a function of parameters alone."""
    del dtype, lead, seed
    return ()


class Example(NamedTuple):
    """One transform as ``apply(data, params)``.

    Attributes:
      covers: public names that the example exercises; each is written ``T.name`` in
        the module of its table.
      apply: deterministic.
      sample: ``sample(key) -> params``; None where there is nothing to draw. For a
        function that draws and returns no parameters, the key is the parameters.
      random: ``random(key, data) -> (output, params)``, if there is one.
      strengths: options of ``random`` that may be traced, with a value or several.
      identity: parameters that return the data bit by bit, if there are any.
      smooth: whether it may be differentiated in its floating-point parameters.
      data: ``data(dtype, lead, seed)``, an array or a pytree of arrays; leaves that are
        no pixels may ignore the dtype.
      dtypes: those of the data, besides float32, that the output keeps.
      bounds: what the output never leaves; None is the range of the data and 0.
      shares: whether leading axes of the data share the parameters.
    """

    covers: set[str]
    apply: Callable[[Any, Any], Any]
    sample: Callable[[Any], Any] | None = None
    random: Callable[..., Any] | None = None
    strengths: dict[str, Any] | None = None
    identity: Any = None
    smooth: bool = False
    data: Callable[..., Any] = image
    dtypes: tuple[Any, ...] = MANY_DTYPES
    bounds: tuple[float, float] | None = None
    shares: bool = True


def draw(example: Example, seed: int = 0):
    """Return parameters of the example."""
    if example.sample is None:
        return example.identity
    return example.sample(jax.random.key(seed))


def join(*tables: dict[str, Example]) -> dict[str, Example]:
    """Return all examples; a name belongs to one table."""
    joined = {name: example for table in tables for name, example in table.items()}
    assert len(joined) == sum(map(len, tables))
    return joined


# --- Comparisons


def plain(leaf) -> np.ndarray:
    """Return an array as NumPy sees it; of a random key, its bits."""
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return np.asarray(jax.random.key_data(leaf))
    if leaf.dtype == jnp.bfloat16:
        return np.asarray(leaf, np.float32)
    return np.asarray(leaf)


def close(got, expected) -> None:
    """Compare up to rounding: one step for integers, float32 noise otherwise."""

    def compare(got, expected):
        got, expected = plain(got), plain(expected)
        step = 1 if np.issubdtype(got.dtype, np.integer) else 1e-4
        wide = np.asarray(got, np.float64), np.asarray(expected, np.float64)
        np.testing.assert_allclose(*wide, atol=step)

    jax.tree.map(compare, got, expected)


def equal(got, expected) -> None:
    """Compare bit by bit."""

    def compare(got, expected):
        assert got.dtype == expected.dtype
        np.testing.assert_array_equal(plain(got), plain(expected))

    jax.tree.map(compare, got, expected)


# --- What may be differentiated


def is_floating(leaf) -> bool:
    """Whether a leaf holds real numbers."""
    return jnp.issubdtype(leaf.dtype, jnp.floating)


def widen(tree):
    """Return float64 copies of the floating-point leaves."""
    return jax.tree.map(
        lambda leaf: (
            jnp.array(np.asarray(leaf, np.float64)) if is_floating(leaf) else leaf
        ),
        tree,
    )


def smooth_leaves(example: Example, data, params) -> list:
    """Return what the example may be differentiated in, of data and parameters."""
    moving = (data, params) if example.smooth else data
    return [leaf for leaf in jax.tree.leaves(moving) if is_floating(leaf)]


def apply_with(example: Example, values, data, params):
    """Apply with values in place of `smooth_leaves`; return the real outputs."""
    values = iter(values)

    def filled(tree):
        return jax.tree.map(
            lambda leaf: next(values) if is_floating(leaf) else leaf, tree
        )

    data = filled(data)
    out = example.apply(data, filled(params) if example.smooth else params)
    return [leaf for leaf in jax.tree.leaves(out) if is_floating(leaf)]
