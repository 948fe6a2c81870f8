"""Law-suite examples: RandAugment, TrivialAugment, AugMix."""

import functools

import jax.numpy as jnp

from jaxssl import transforms as T  # noqa: N812
from tests.transforms.examples_color import color_example
from tests.transforms.examples_tone import large

NOTHING = jnp.zeros((2, 1), jnp.int32)

assert set(T.AUGMIX_OPERATIONS) < set(T.OPERATIONS)

EXAMPLES = {
    "rand_augment": color_example(
        {
            "OPERATIONS",
            "RandAugmentParams",
            "rand_augment",
            "rand_augment_params",
            "random_rand_augment",
        },
        T.rand_augment,
        T.rand_augment_params,
        T.random_rand_augment,
        strengths={"magnitude": 0.8},
        identity=T.RandAugmentParams(jnp.zeros(2, jnp.int32), jnp.array([-1.0, 0.4])),
        data=large,
    ),
    "trivial_augment": color_example(
        {
            "TrivialAugmentParams",
            "random_trivial_augment",
            "trivial_augment",
            "trivial_augment_params",
        },
        T.trivial_augment,
        T.trivial_augment_params,
        T.random_trivial_augment,
        identity=T.TrivialAugmentParams(jnp.array(0), jnp.array(0.5)),
        data=large,
    ),
    "augmix": color_example(
        {
            "AUGMIX_OPERATIONS",
            "AugMixParams",
            "augmix",
            "augmix_params",
            "random_augmix",
        },
        T.augmix,
        functools.partial(T.augmix_params, width=2, depth=(1, 1)),
        functools.partial(T.random_augmix, width=2, depth=(1, 1)),
        strengths={"magnitude": 0.8, "alpha": 2.0},
        identity=T.AugMixParams(
            NOTHING, jnp.ones((2, 1)), jnp.array([0.25, 0.75]), jnp.array(0.0)
        ),
        data=large,
    ),
}
