"""Law-suite examples: colours, grey, blur."""

import functools
import math

import jax
import jax.numpy as jnp

from jaxssl import transforms as T  # noqa: N812
from tests.transforms.laws import Example

FLOATS = (jnp.bfloat16, jnp.float16)
UNIT = (0.0, 1.0)
ANY = (-math.inf, math.inf)
KEEP = T.FactorParams(jnp.array(1.0))

color_example = functools.partial(Example, dtypes=FLOATS, bounds=UNIT, smooth=True)
short_blur = functools.partial(T.gaussian_blur, radius=4)

EXAMPLES = {
    "brightness": color_example(
        {"brightness", "brightness_params", "random_brightness", "FactorParams"},
        lambda image, params: T.brightness(image, *params),
        T.brightness_params,
        T.random_brightness,
        strengths={"strength": 0.4},
        identity=KEEP,
    ),
    "contrast": color_example(
        {"contrast", "contrast_params", "random_contrast"},
        lambda image, params: T.contrast(image, *params),
        T.contrast_params,
        T.random_contrast,
        strengths={"strength": 0.4},
        identity=KEEP,
    ),
    "contrast_of_one_channel": color_example(
        set(),
        lambda image, params: T.contrast(image[..., :1], *params),
        T.contrast_params,
    ),
    "saturation": color_example(
        {"saturation", "saturation_params", "random_saturation"},
        lambda image, params: T.saturation(image, *params),
        T.saturation_params,
        T.random_saturation,
        strengths={"strength": 0.4},
        identity=KEEP,
    ),
    "wide_range": color_example(
        set(),
        lambda image, params: T.brightness(image, *params, value_range=(-3, 2.0)),
        T.brightness_params,
        identity=KEEP,
        bounds=(-3.0, 2.0),
    ),
    "hue": color_example(
        {"hue", "hue_params", "random_hue", "HueParams"},
        lambda image, params: T.hue(image, *params),
        T.hue_params,
        T.random_hue,
        strengths={"strength": 0.1},
        identity=T.HueParams(jnp.array(0.0)),
    ),
    "hue_exact": color_example(
        set(),
        lambda image, params: T.hue(image, *params, exact=True),
        functools.partial(T.hue_params, strength=0.5),
        functools.partial(T.random_hue, strength=0.5, exact=True),
        identity=T.HueParams(jnp.array(0.0)),
    ),
    "color_jitter": color_example(
        {
            "color_jitter",
            "color_jitter_params",
            "random_color_jitter",
            "ColorJitterParams",
        },
        T.color_jitter,
        T.color_jitter_params,
        T.random_color_jitter,
        strengths={"brightness": 0.4, "contrast": 1.2, "saturation": 0.3, "hue": 0.1},
        identity=T.ColorJitterParams(
            *(jnp.array(1.0),) * 3, jnp.array(0.0), jnp.array([2, 0, 3, 1])
        ),
    ),
    "color_jitter_exact": color_example(
        set(),
        functools.partial(T.color_jitter, exact=True),
        T.color_jitter_params,
        functools.partial(T.random_color_jitter, exact=True),
        identity=T.ColorJitterParams(
            *(jnp.array(1.0),) * 3, jnp.array(0.0), jnp.array([3, 1, 0, 2])
        ),
    ),
    "grayscale": color_example(
        {"grayscale", "grayscale_params", "random_grayscale", "GrayscaleParams"},
        lambda image, params: T.grayscale(image, *params),
        T.grayscale_params,
        T.random_grayscale,
        strengths={"prob": 0.3},
        identity=T.GrayscaleParams(jnp.array(False)),
    ),
    "normalize": color_example(
        {"normalize"},
        lambda image, params: T.normalize(image, *params),
        lambda key: tuple(jax.random.uniform(key, (2, 3), minval=0.2)),
        identity=(jnp.zeros(3), jnp.ones(3)),
        bounds=ANY,
    ),
    "gaussian_blur": color_example(
        {
            "gaussian_blur",
            "gaussian_blur_params",
            "random_gaussian_blur",
            "BlurParams",
        },
        lambda image, params: short_blur(image, *params),
        T.gaussian_blur_params,
        functools.partial(T.random_gaussian_blur, radius=4),
        strengths={"sigma": (0.5, 1.0)},
        identity=T.BlurParams(jnp.array(0.0)),
    ),
}
