"""From one transform to several, and from one example to a batch.

A view as self-supervised methods draw it, in one sampling and one pass over the
colours. Geometric transforms are composed as coordinates; what happens with some
probability is switched off by its parameters, never by a choice between two images,
which on XLA:CPU costs more than all else:

    >>> import functools, jax, jax.numpy as jnp
    >>> from jaxssl import transforms as T
    >>> def view(key, image, *, size):
    ...     crop, flip, color, use_color, blur, use_blur = jax.random.split(key, 6)
    ...     box = T.resized_crop_params(crop, image_size=image.shape[:2])
    ...     maps = [
    ...         T.resized_crop_coords(box, size),
    ...         T.hflip_coords(*T.hflip_params(flip)),
    ...     ]
    ...     image = T.geometric_chain(image, maps)
    ...     jitter = T.color_jitter_params(color)
    ...     off = T.ColorJitterParams(1, 1, 1, 0, jitter.order)
    ...     jitter = T.maybe(use_color, jitter, off, prob=0.8)
    ...     image = T.color_jitter(image, jitter)
    ...     sigma = T.gaussian_blur_params(blur)
    ...     sigma = T.maybe(use_blur, sigma, T.BlurParams(0), prob=0.5)
    ...     return T.gaussian_blur(image, *sigma, radius=4)
    >>> images, ids = jnp.zeros((2, 40, 32, 3)), jnp.array([7, 11])
    >>> apply = jax.jit(T.batched(functools.partial(view, size=24)))
    >>> apply(jax.random.key(0), images, ids).shape
    (2, 24, 24, 3)
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxssl.transforms import checks
from jaxssl.transforms.checks import Scalar
from jaxssl.types import Array, Int, Key


def batched(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Turn ``fn(key, example)`` into ``apply(key, batch, ids=None)``.

    Each example gets its own key. With ``ids`` (the examples' indices in their data
    set) it is ``fold_in(key, id)``, which depends on neither the batch's composition
    nor its order nor the number of devices: the same example gets the same draw. With
    no ids the key is split. Use threefry keys (the default): ``rbg`` keys under
    `jax.vmap` draw everything from the first one.

    Args:
      fn: a function of a key and one example (an array or a pytree), such as
        ``random_warp``; fix its options with `functools.partial`.

    Returns:
      The function over batches; the leading axis of every leaf is the batch. It
      raises a ValueError if the leaves or the ids disagree on its length.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxssl import transforms as T
      >>> images = jnp.zeros((2, 8, 8, 3))
      >>> out, params = T.batched(T.random_warp)(jax.random.key(0), images)
      >>> out.shape, params.offsets.shape
      ((2, 8, 8, 3), (2, 4, 4, 2))
    """

    def apply(key: Key[Array, ""], batch: Any, ids: Int[Array, " b"] | None = None):
        lengths = {leaf.shape[:1] for leaf in jax.tree.leaves(batch)}
        if ids is not None:
            lengths.add(ids.shape)
        if len(lengths) != 1 or () in lengths:
            raise ValueError(
                "every leaf of the batch, and ids, must share the leading batch axis; "
                f"got the leading axes {sorted(lengths)}."
            )
        if ids is None:
            keys = jax.random.split(key, lengths.pop())
        else:
            keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, ids)
        return jax.vmap(fn)(keys, batch)

    return apply


def chain(*fns: Callable[..., Any]) -> Callable[..., Any]:
    """Apply random transforms one after the other.

    The i-th draws from ``fold_in(key, i)``: what one draws depends on its position and
    not on the others, so that others may be changed, or added at the end. Transforms
    that move pixels are faster and sharper in `jaxssl.transforms.geometric_chain`,
    which samples once.

    Args:
      *fns: each ``fn(key, example) -> (example, params)``, such as ``random_hflip``;
        fix options with `functools.partial`. A chain is such a function too.

    Returns:
      ``apply(key, example) -> (example, params)``, params being a tuple with those of
      each function.

    Example:
      >>> import functools, jax, jax.numpy as jnp
      >>> from jaxssl import transforms as T
      >>> crop = functools.partial(T.random_crop, size=6)
      >>> augment = T.chain(crop, T.random_hflip)
      >>> image, params = augment(jax.random.key(0), jnp.zeros((8, 8, 3)))
      >>> image.shape, [type(one).__name__ for one in params]
      ((6, 6, 3), ['CropParams', 'FlipParams'])
    """

    def apply(key: Key[Array, ""], example: Any):
        params = []
        for i, fn in enumerate(fns):
            example, drawn = fn(jax.random.fold_in(key, i), example)
            params.append(drawn)
        return example, tuple(params)

    return apply


def maybe(
    key: Key[Array, ""], params: Any, identity: Any, *, prob: Scalar = 0.5
) -> Any:
    """Keep parameters with probability ``prob``, else take those that do nothing.

    The transform then runs once, with what was chosen; no image is computed twice.

    Args:
      key: a typed key, another than that which drew the parameters.
      params: a pytree of arrays.
      identity: of the same structure; each leaf a number, or an array of the same
        shape. Every NamedTuple of parameters says what its identity is.
      prob: probability of keeping ``params``; may be traced.

    Returns:
      One of the two, with the shapes and dtypes of ``params``.

    Raises:
      ValueError: if the structures differ, or ``prob`` is a Python number outside of
        [0, 1].

    Example:
      >>> import jax
      >>> from jaxssl import transforms as T
      >>> first, second = jax.random.split(jax.random.key(0))
      >>> params = T.warp_params(first)
      >>> params = T.maybe(second, params, T.WarpParams(0), prob=0.8)
      >>> params.offsets.shape
      (4, 4, 2)
    """
    checks.probability(prob, "prob")
    structures = jax.tree.structure(params), jax.tree.structure(identity)
    if structures[0] != structures[1]:
        raise ValueError(
            f"identity must have the structure of params, {structures[0]}; got "
            f"{structures[1]}. Use the same NamedTuple."
        )
    keep = jax.random.bernoulli(key, prob)

    def choose(kept, other):
        other = jnp.broadcast_to(jnp.asarray(other, kept.dtype), kept.shape)
        return jnp.where(keep, kept, other)

    return jax.tree.map(choose, params, identity)


def class_labels(num_samples: int, num_classes: int) -> Int[Array, "b k"]:
    """Return the labels of samples that show each class once, on axis 1."""
    labels = jnp.arange(num_classes, dtype=jnp.int32)
    return jnp.broadcast_to(labels, (num_samples, num_classes))
