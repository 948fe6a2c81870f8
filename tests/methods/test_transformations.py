"""Chapter 4 against its equations, written out another way."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxssl import losses
from jaxssl import transforms as T  # noqa: N812
from jaxssl.errors import UserError
from jaxssl.methods import transformations as method
from jaxssl.models.alexnet import alexnet
from jaxssl.models.critic import critic
from jaxssl.models.inpainter import inpainter
from tests.tasks import TINY, images

SMALL = {"canvas_size": 24, "crop_size": 20, "patch_size": 12, "border": 2}
KEY = jax.random.key(3)
BATCH = jax.tree.map(jnp.asarray, images(8))


def config(*classes, **changes):
    return method.Config(classes=classes or method.TRANSFORMS, **SMALL | changes)


@functools.cache
def drawn(cfg):
    """Draw canvases and patches as the step does."""

    @jax.jit
    def draw(images, ids):
        keys = method.make_sample_keys(KEY, ids)
        canvases = method.cut_canvases(keys, images, cfg)
        return keys, canvases, method.draw_patches(keys, canvases, cfg)

    return draw(BATCH["image"], BATCH["id"])


def examples(cfg, keys, canvases, painted):
    """Make the examples of a step, compiled."""
    make = jax.jit(functools.partial(method.make_examples, config=cfg))
    return make(keys, canvases, painted)


def fake_paint(patches):
    return method.Painted(
        inpainted=jnp.full_like(patches.patch, 0.9),
        reconstructed=jnp.full_like(patches.patch, -0.9),
    )


# --- Patches (4.2), (4.3), (4.4)


def test_erased_patch_keeps_the_border_and_draws_the_rest():
    cfg = config(noise_std=0.1)
    _, canvases, patches = drawn(cfg)
    border = np.zeros((12, 12), bool)
    border[:2] = border[-2:] = border[:, :2] = border[:, -2:] = True
    for canvas, corner, patch, erased in zip(canvases, *patches, strict=True):
        y, x = (int(v) for v in corner)
        np.testing.assert_array_equal(patch, canvas[y : y + 12, x : x + 12])
        np.testing.assert_array_equal(erased[border], patch[border])
    holes = np.asarray(patches.erased)[:, ~border]
    assert abs(holes.mean()) < 0.01
    assert abs(holes.std() - 0.1) < 0.01


def test_lci_view_is_the_canvas_outside_of_the_patch():
    cfg = config("none", "lci", tilt=0.0, crop_size=24, patch_autoencoding=False)
    keys, canvases, patches = drawn(cfg)
    painted = fake_paint(patches)._replace(reconstructed=None)
    made = examples(cfg, keys, canvases, (patches, painted))
    for canvas, corner, plain, inpainted in zip(
        canvases, patches.top_left, made[:, 0], made[:, 1], strict=True
    ):
        y, x = (int(v) for v in corner)
        expected = np.array(canvas)
        expected[y : y + 12, x : x + 12] = 0.9
        assert any(
            np.array_equal(inpainted, way) for way in (expected, expected[:, ::-1])
        )
        assert any(
            np.array_equal(plain, way) for way in (canvas, np.array(canvas)[:, ::-1])
        )


def test_every_other_base_view_carries_an_autoencoded_patch_and_lci_none():
    cfg = config(tilt=0.0, crop_size=24)
    keys, canvases, patches = drawn(cfg)
    painted = fake_paint(patches)
    made = np.asarray(examples(cfg, keys, canvases, (patches, painted)))
    reconstructed = np.isclose(made, -0.9).all(-1).sum((2, 3)) >= 144
    inpainted = np.isclose(made, 0.9).all(-1).sum((2, 3)) >= 144
    odd = np.arange(8) % 2 == 1
    for column, name in enumerate(method.TRANSFORMS):
        expected = odd if name in ("none", "rot90", "rot180", "rot270") else odd & False
        np.testing.assert_array_equal(reconstructed[:, column], expected, name)
        assert inpainted[:, column].all() == (name == "lci")


# --- Views


def test_rotated_views_are_exact_quarter_turns_of_the_base_view():
    cfg = config("rot180", "none", "rot90", "rot270")
    keys, canvases, _ = drawn(cfg)
    made = np.asarray(examples(cfg, keys, canvases, None))
    for row in made:
        for column, turns in enumerate((2, 0, 1, 3)):
            np.testing.assert_array_equal(row[column], np.rot90(row[1], turns))


def test_a_samples_views_depend_on_its_id_alone():
    cfg = config("none", "rot90", "warp")

    @jax.jit
    def make(images, ids):
        keys = method.make_sample_keys(KEY, ids)
        canvases = method.cut_canvases(keys, images, cfg)
        return method.make_examples(keys, canvases, None, cfg)

    order = np.array([5, 2, 7])
    images, ids = BATCH["image"], BATCH["id"]
    whole, part = make(images, ids), make(images[order], ids[order])
    np.testing.assert_allclose(part, whole[order], atol=1e-5)


@pytest.mark.parametrize("warp_points", ["grid", "free"])
def test_warped_view_is_the_warp_of_the_transform_library(warp_points):
    cfg = config("none", "warp", tilt=0.0, crop_size=24, warp_points=warp_points)
    keys, canvases, _ = drawn(cfg)
    made = examples(cfg, keys, canvases, None)[0, 1]
    warp_key = jax.random.split(jax.random.split(keys.warp[0])[1], 4)[0]
    if warp_points == "grid":
        params = T.warp_params(warp_key, grid=(4, 4), magnitude=0.1)
        warped = T.warp(canvases[0], params)
    else:
        params = T.free_warp_params(warp_key, num_points=16, magnitude=0.1)
        warped = T.free_warp(canvases[0], params, stride=1)
    ways = (warped, warped[:, ::-1])
    assert any(np.allclose(made, way, atol=1e-3) for way in ways)
    assert not np.allclose(made, canvases[0], atol=0.1)


@pytest.mark.parametrize("tilted", ["alternate", "random"])
def test_tilt_falls_on_the_rows_that_the_setting_names(tilted):
    cfg = config("none", "rot90", tilted=tilted, crop_size=24, tilt=0.07)
    keys, canvases, _ = drawn(cfg)
    made = examples(cfg, keys, canvases, None)[:, 0]
    straight = [
        np.array_equal(view, canvas) or np.array_equal(view, np.array(canvas)[:, ::-1])
        for view, canvas in zip(made, canvases, strict=True)
    ]
    if tilted == "alternate":
        assert straight == [False, True] * 4
    else:
        assert 0 < sum(straight) < 8


# --- Losses and gradients


def test_border_loss_ignores_the_hole_and_is_a_mean_over_the_border():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 3, 12, 12, 3)).astype(np.float32)
    border = np.asarray(T.border_mask(12, 2))
    expected = np.mean((a - b)[:, border] ** 2)
    got = losses.masked_mse(jnp.asarray(a), jnp.asarray(b), jnp.asarray(border))
    np.testing.assert_allclose(got, expected, rtol=1e-5)
    a[:, 5, 5] += 10
    again = losses.masked_mse(jnp.asarray(a), jnp.asarray(b), jnp.asarray(border))
    np.testing.assert_allclose(again, expected, rtol=1e-5)


def test_packed_patches_are_neighbours_side_by_side_on_channels():
    x = np.random.default_rng(0).normal(size=(6, 4, 4, 3)).astype(np.float32)
    packed = np.asarray(method.pack_patches(jnp.asarray(x), 2))
    assert packed.shape == (3, 4, 4, 6)
    for n in range(3):
        np.testing.assert_array_equal(
            packed[n], np.concatenate([x[2 * n], x[2 * n + 1]], axis=-1)
        )


@functools.cache
def _networks():
    return method.Networks(
        classifier=alexnet(3, **TINY),
        backbone=alexnet(None, **TINY),
        inpainter=inpainter(depth=8, num_layers=2),
        critic=critic(num_stages=2, depth=4),
    )


def test_inpainter_gradient_is_that_of_its_whole_loss():
    """The pulled-back gradient equals autodiff of L_inp,AE written in one piece."""
    weight = 0.7
    cfg = config("none", "rot90", "lci", lambda_classifier=weight)
    border = np.ones((12, 12), bool)
    border[2:-2, 2:-2] = False
    networks = _networks()
    txs = {player: optax.sgd(1e-2) for player in cfg.trained_players}
    state = jax.jit(method.make_task(cfg, networks, txs).init)(KEY, BATCH)
    keys, canvases, patches = drawn(cfg)

    def whole(params):
        painted, _ = method.paint(
            networks.inpainter, params, state.stats["inpainter"], patches, cfg
        )
        fake = method.pack_patches(painted.inpainted, 2)
        score, _ = networks.critic.apply(
            state.params["critic"], state.stats["critic"], fake, train=False
        )
        on_border = jnp.square(painted.inpainted - patches.patch)[:, border].mean()
        autoencode = jnp.square(painted.reconstructed - patches.patch).mean()
        made = method.make_examples(keys, canvases, (patches, painted), cfg)
        outputs, _ = networks.classifier.apply(
            state.params["classifier"],
            state.stats["classifier"],
            made.reshape(-1, 20, 20, 3),
            train=True,
        )
        log_p = jax.nn.log_softmax(outputs["logits"]).reshape(8, 3, 3)
        ssl = -jnp.trace(log_p.mean(0)) / 3
        return -score["logits"].mean() + 50 * on_border + 50 * autoencode - weight * ssl

    expected = jax.jit(jax.grad(whole))(state.params["inpainter"])
    found = jax.jit(lambda s: method.joint_gradients(s, keys, canvases, cfg, networks))(
        state
    )
    for a, b in zip(
        jax.tree.leaves(expected),
        jax.tree.leaves(found.grads["inpainter"]),
        strict=True,
    ):
        scale = float(jnp.abs(a).max())
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4 * scale)


def test_metrics_count_right_answers_by_class():
    cfg = config("none", "warp", "lci")
    logits = np.zeros((4, 3, 3), np.float32)
    logits[:, 0, 0] = 1  # "none" always right
    logits[:2, 1, 1] = 1  # "warp" half right
    logits[2:, 1, 2] = 1
    logits[:, 2, 0] = 1  # "lci" never
    found = method.classifier_metrics(jnp.float32(0.0), jnp.asarray(logits), cfg)
    assert {k: float(v) for k, v in found.items() if k != "loss/classifier"} == {
        "acc/pretext": 0.5,
        "acc/none": 1.0,
        "acc/warp": 0.5,
        "acc/lci": 0.0,
    }


# --- Bad input


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": ()}, r"classes is \(\); it needs two or more"),
        ({"classes": ("warp",)}, "needs two or more"),
        ({"classes": ("none", "none")}, "two or more different"),
        ({"classes": ("none", "rot9")}, "'rot9'; allowed: none.*Did you mean 'rot90'"),
        ({"crop_size": 25}, "crop_size is 25, larger than canvas_size 24"),
        ({"patch_size": 20}, "patch_size is 20, not below crop_size 20"),
        ({"border": 6}, "border is 6, too wide for patch_size 12; it must be below 6"),
        ({"border": 0}, "border is 0; it must be at least 1"),
        ({"warp_grid": 1}, "warp_grid is 1; it must be at least 2"),
        ({"warp_magnitude": -0.1}, "warp_magnitude is -0.1; it must be at least 0"),
        ({"noise_std": -1.0}, "noise_std is -1.0"),
        ({"tilted": "odd"}, "tilted is 'odd'; allowed: alternate, random"),
        ({"inpainter": "off"}, "inpainter is 'off'; allowed: joint, frozen"),
        ({"warp_points": "net"}, "warp_points is 'net'; allowed: grid, free"),
    ],
)
def test_impossible_settings_are_refused(change, message):
    with pytest.raises(UserError, match=message):
        method.Config(**SMALL | change)


def test_patch_settings_are_not_asked_of_experiments_without_lci():
    method.Config(classes=("none", "warp"), crop_size=32, canvas_size=40)


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (images(8, size=20), "canvas_size is 24, larger than the images \\(20x20\\)"),
        (images(7), "train.batch_size is 7, not a multiple of method.critic_patches"),
    ],
)
def test_batches_that_do_not_fit_are_refused(batch, message):
    cfg = config("none", "rot90", "lci")
    txs = {player: optax.sgd(1e-2) for player in cfg.trained_players}
    task = method.make_task(cfg, _networks(), txs)
    with pytest.raises(UserError, match=message):
        jax.eval_shape(task.init, KEY, batch)
