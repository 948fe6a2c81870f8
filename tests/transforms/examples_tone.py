"""Law-suite examples: tone curves, histograms, sharpness."""

import functools

import jax.numpy as jnp

from jaxssl import transforms as T  # noqa: N812
from tests.transforms.examples_color import KEEP, color_example
from tests.transforms.laws import pixels

large = functools.partial(pixels, (24, 20, 3))
"""Of enough pixels for a histogram to be equalized."""

EXAMPLES = {
    "sharpness": color_example(
        {"sharpness", "sharpness_params", "random_sharpness"},
        lambda image, params: T.sharpness(image, *params),
        T.sharpness_params,
        T.random_sharpness,
        strengths={"strength": 0.4},
        identity=KEEP,
    ),
    "gamma": color_example(
        {"gamma", "gamma_params", "random_gamma", "GammaParams"},
        lambda image, params: T.gamma(image, *params),
        T.gamma_params,
        T.random_gamma,
        strengths={"exponent": (0.5, 3.0)},
        identity=T.GammaParams(jnp.array(1.0)),
    ),
    "solarize": color_example(
        {"solarize", "solarize_params", "random_solarize", "SolarizeParams"},
        lambda image, params: T.solarize(image, *params),
        T.solarize_params,
        T.random_solarize,
        strengths={"threshold": (0.2, 0.9)},
        identity=T.SolarizeParams(jnp.array(2.0)),
    ),
    "posterize": color_example(
        {"posterize", "posterize_params", "random_posterize", "PosterizeParams"},
        lambda image, params: T.posterize(image, *params),
        T.posterize_params,
        T.random_posterize,
        identity=T.PosterizeParams(jnp.array(8)),
    ),
    "autocontrast": color_example(
        {
            "autocontrast",
            "autocontrast_params",
            "random_autocontrast",
            "AutocontrastParams",
        },
        lambda image, params: T.autocontrast(image, *params),
        T.autocontrast_params,
        T.random_autocontrast,
        strengths={"prob": 0.3},
        identity=T.AutocontrastParams(jnp.array(False)),
    ),
    "equalize": color_example(
        {"equalize", "equalize_params", "random_equalize", "EqualizeParams"},
        lambda image, params: T.equalize(image, *params),
        T.equalize_params,
        T.random_equalize,
        strengths={"prob": 0.3},
        identity=T.EqualizeParams(jnp.array(False)),
        data=large,
    ),
}
