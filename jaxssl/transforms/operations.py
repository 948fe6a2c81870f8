"""The operations that RandAugment, TrivialAugment and AugMix draw from.

The drawn one is a branch of `jax.lax.switch`. Under `jax.vmap` all branches are
computed, so the five geometric operations share one: a single sampling, by the matrix
of `jaxssl.transforms.affine`. One image alone, and each of a `jax.lax.map`, computes
its own operation only.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxssl.transforms import checks, color, histogram, tone
from jaxssl.transforms.checks import IntScalar, PerChannel, Scalar
from jaxssl.transforms.color import ValueRange
from jaxssl.transforms.projective import AffineParams, affine
from jaxssl.transforms.sampling import inside
from jaxssl.types import Array

OPERATIONS = (
    "identity",
    "autocontrast",
    "equalize",
    "solarize",
    "posterize",
    "brightness",
    "contrast",
    "saturation",
    "sharpness",
    "rotate",
    "shear_x",
    "shear_y",
    "translate_x",
    "translate_y",
)
"""The operations of RandAugment; what its paper calls color is saturation here."""

FIRST_GEOMETRIC = OPERATIONS.index("rotate")


class Reach(NamedTuple):
    """What the operations do at magnitude 1.

    Attributes:
      shear: pixels to the side for each pixel.
      pixels: distance to translate by, in pixels.
      sides: distance to translate by besides, as a fraction of the side.
      angle: radians.
      factor: change of the four factors.
      bits: (b, s): ``ceil(b - s |magnitude|)`` bits are kept.
    """

    shear: float
    pixels: float
    sides: float
    angle: float
    factor: float
    bits: tuple[float, float]


def check(image, operation, magnitude, what: str, rank: int) -> None:
    """Raise an error if the image or the drawn operations are wrong."""
    checks.image_size(image)
    checks.floating(image, what)
    checks.channels(image, (1, 3), what)
    shape = checks.whole(operation, "operation").shape
    if len(shape) != rank or jnp.shape(magnitude) != shape:
        axes = "(n,)" if rank == 1 else "(width, depth)"
        raise ValueError(
            f"operation and magnitude must have one shape {axes}; got {shape} and "
            f"{jnp.shape(magnitude)}. Use jax.vmap or batched for one per example."
        )


def draw(
    key: Array, shape: tuple[int, ...], operations: tuple[str, ...]
) -> tuple[Array, Array]:
    """Return places in `OPERATIONS` and signs."""
    if not operations:
        raise ValueError("operations must name at least one operation; got none.")
    for name in operations:
        checks.choice(name, OPERATIONS, "operations")
    places = jnp.array([OPERATIONS.index(name) for name in operations], jnp.int32)
    which, sign = jax.random.split(key)
    drawn = jax.random.randint(which, shape, 0, len(operations))
    return inside(places, drawn, -1), jax.random.rademacher(sign, shape, jnp.float32)


class Look(NamedTuple):
    """How all operations treat values and borders; static but for ``fill``.

    Attributes:
      value_range: black and white.
      border: see `jaxssl.transforms.bilinear_sample`.
      fill: see `jaxssl.transforms.bilinear_sample`.
    """

    value_range: ValueRange
    border: str
    fill: PerChannel


def in_order(image: Array, drawn: tuple[Array, ...], reach: Reach, look: Look) -> Array:
    """Apply operations ``drawn`` = (operation, magnitude) one after the other."""

    def step(image, one):
        operation, magnitude = one
        return _operate(image, operation, magnitude, reach, look), None

    image = jax.lax.scan(step, jnp.asarray(image), drawn)[0]
    return jnp.clip(image, *look.value_range)


def _operate(
    image: Array, operation: IntScalar, magnitude: Scalar, reach: Reach, look: Look
) -> Array:
    """Apply one operation."""
    values: dict[str, Any] = {"value_range": look.value_range}
    strength, factor = jnp.abs(magnitude), 1 + reach.factor * magnitude
    threshold = 256 / 255 * (1 - strength)
    bits = jnp.ceil(reach.bits[0] - reach.bits[1] * strength).astype(jnp.int32)

    def saturation(image):
        is_gray = image.shape[-1] == 1
        return image if is_gray else color.saturation(image, factor, **values)

    branches = [  # In the order of OPERATIONS.
        lambda image: image,
        lambda image: histogram.autocontrast(image, **values),
        lambda image: histogram.equalize(image, **values),
        lambda image: tone.solarize(image, threshold, **values),
        lambda image: tone.posterize(image, bits, **values),
        lambda image: color.brightness(image, factor, **values),
        lambda image: color.contrast(image, factor, **values),
        saturation,
        lambda image: color.sharpness(image, factor, **values),
        lambda image: _move(image, operation, magnitude, reach, look),
    ]
    return jax.lax.switch(jnp.minimum(operation, FIRST_GEOMETRIC), branches, image)


def _move(
    image: Array, operation: IntScalar, magnitude: Scalar, reach: Reach, look: Look
) -> Array:
    """Turn, shear or translate.

    Positions follow Pillow's ``Image.transform``: a shear keeps the upper left corner,
    half a pixel from the first centre, and moves to the left or up.
    """

    def of(name: str, value):
        return jnp.where(operation == OPERATIONS.index(name), value, 0)

    height, width = image.shape[-3:-1]
    shear = reach.shear * magnitude
    down, across = of("shear_y", shear), of("shear_x", shear)
    y, x = (reach.sides + reach.pixels / side for side in (height, width))
    y = of("translate_y", y * magnitude) + down * width / 2 / height
    x = of("translate_x", x * magnitude) + across * height / 2 / width
    params = AffineParams(
        angle=of("rotate", reach.angle * magnitude),
        translate=-jnp.stack([y, x]),
        scale=jnp.ones(()),
        shear=-jnp.stack([down, across]),
    )
    return affine(image, params, border=look.border, fill=look.fill)
