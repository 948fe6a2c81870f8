"""Masks on the parameter trees of real networks."""

import jax
import jax.numpy as jnp
import optax

from jaxssl.models.alexnet import alexnet
from jaxssl.models.inpainter import inpainter
from jaxssl.optim import masks


def flat(network, mask):
    x = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    params, _ = jax.eval_shape(network.init, jax.random.key(0), x)
    marked = mask(params)
    assert jax.tree.structure(marked) == jax.tree.structure(params)
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): value
        for path, value in jax.tree.leaves_with_path(marked)
    }


def test_chapter_4_decays_the_last_bias_but_no_norm():
    marked = flat(alexnet(6), masks.all_but_norm)
    assert marked["logits/bias"]
    assert marked["logits/kernel"]
    spared = {path for path, value in marked.items() if not value}
    layers = [f"conv{i}" for i in range(1, 6)] + ["fc1", "fc2"]
    assert spared == {f"{x}/norm/{y}" for x in layers for y in ("scale", "bias")}


def test_layers_of_mixed_leaves_and_submodules_are_no_norms():
    marked = flat(inpainter(), masks.all_but_norm)
    assert marked["up1/kernel"]
    assert marked["stem/bias"]
    assert not marked["up1/norm/bias"]


def test_a_norm_without_scale_is_a_norm():
    params = {"norm": {"bias": jnp.zeros(3)}, "dense": {"kernel": jnp.ones((3, 3))}}
    marked = masks.all_but_norm(params)
    assert marked == {"norm": {"bias": False}, "dense": {"kernel": True}}


def test_optax_takes_a_mask():
    params = {"norm": {"scale": jnp.ones(2), "bias": jnp.ones(2)}, "w": jnp.ones(2)}
    decay = optax.add_decayed_weights(0.5, mask=masks.all_but_norm)
    updates, _ = decay.update(
        jax.tree.map(jnp.zeros_like, params), decay.init(params), params
    )
    assert float(updates["w"][0]) == 0.5
    assert not updates["norm"]["scale"].any()


def test_chapter_8_decays_the_kernels_alone():
    marked = flat(alexnet(6), masks.only_kernels)
    assert {path for path, value in marked.items() if value} == {
        path for path in marked if path.endswith("/kernel")
    }
    assert not marked["logits/bias"]
