"""Learn features by recognising how an image was transformed (thesis chapter 4).

Jenni, Jin and Favaro, "Steering Self-Supervised Feature Learning Beyond Local Pixel
Statistics", CVPR 2020. A classifier C is shown an image that was rotated, warped,
locally inpainted, or left alone, and says which. Each transformation keeps local
statistics (texture) and changes global ones (shape, layout), so C must learn these. The
inpainter F paints a patch from a thin border; a patch critic D keeps its texture
natural, and F also works against C. So that C cannot recognise F's brush, half of the
untransformed and rotated images carry a patch that F merely autoencoded. All three
networks step together from one forward pass.

Sections 4.2.1 to 4.2.4, how the examples are made, are next door in
``transformed_views``; here are the networks, the losses and the step.

| paper | code | where |
|---|---|---|
| T_0 ... T_5 | ``TRANSFORMS``; label j is ``Config.classes[j]`` | Sec. 4.2 |
| x_i | ``canvas``, the square on which a transformation acts | |
| e_i, r_i, m | ``patch``, ``filled``, outside of ``border_mask`` | (4.2), (4.3) |
| F(e_i) | ``copied``, the autoencoded patch | Sec. 4.2.4 |
| z | ``noise`` | (4.3) |
| Delta | ``top_left`` of the patch | (4.2) |
| L_SSL | ``loss/classifier`` | (4.1) |
| l_GAN | ``loss/critic``; its part in ``loss/inpainter`` | Sec. 4.2.1 |
| lambda_border, lambda_AE | ``lambda_border``, ``lambda_autoencode`` | Sec. 4.2 |

Deviations. Every difference between the thesis and the author's released code is a
field of ``Config`` or of ``jaxssl.optim.adam.AdamWConfig``. In both variants, "half of
the batch" means every other row here, so that it needs no traffic between devices, and
a horizontal flip is drawn for each view rather than once for an image.
"""

import functools
import math
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxssl import losses
from jaxssl import transforms as T  # noqa: N812
from jaxssl.errors import UserError
from jaxssl.methods import task as task_lib
from jaxssl.methods.task import Gradients, make_gradients
from jaxssl.methods.transformed_views import (
    TRANSFORMS,
    Config,
    Draws,
    Painted,
    Patches,
    cut_canvases,
    draw_keys,
    draw_patch,
    make_examples,
)
from jaxssl.models.network import from_pixels
from jaxssl.types import (
    Array,
    Batch,
    Float,
    Int,
    Key,
    Metrics,
    Network,
    Task,
    TrainState,
)

__all__ = ["TRANSFORMS", "Config", "Networks", "make_task"]


class Networks(NamedTuple):
    """The players, and the classifier's trunk for reading features at any size.

    Attributes:
      classifier: C; ``logits`` has one column for each class.
      backbone: C without its fully connected layers, on the same parameters.
      inpainter: F; ``image`` is its output in [-1, 1]. Idle without the class ``lci``.
      critic: D; ``logits`` is one score for each stack of patches. Idle likewise.
    """

    classifier: Network
    backbone: Network
    inpainter: Network
    critic: Network


# --- Sec. 4.2.1 Limited context inpainting


def paint(
    inpainter: Network, params, stats, patches: Patches, config: Config
) -> tuple[Painted, object]:
    """Run F once on erased and clean patches together (shared batch statistics).

    Returns:
      The painted patches and F's new statistics.
    """
    inputs = patches.erased
    if config.patch_autoencoding:
        inputs = jnp.concatenate([patches.erased, patches.patch])
    outputs, stats = inpainter.apply(params, stats, inputs, train=True)
    if not config.patch_autoencoding:
        return Painted(outputs["image"], None), stats
    filled, copied = jnp.split(outputs["image"], 2)
    return Painted(filled, copied), stats


# --- Eq. (4.1) and L_inp Losses


def classifier_loss(
    params, stats, examples: Float[Array, "b k t t c"], classifier: Network
) -> tuple[Float[Array, ""], tuple[object, Float[Array, "b k j"]]]:
    """Return L_SSL, eq. (4.1): the mean cross-entropy of C over all views.

    Returns:
      The loss, and C's new statistics with its logits.
    """
    b, k = examples.shape[:2]
    inputs = examples.reshape(b * k, *examples.shape[2:])
    outputs, stats = classifier.apply(params, stats, inputs, train=True)
    labels = jnp.tile(jnp.arange(k), b)
    loss = losses.cross_entropy(outputs["logits"], labels)
    return loss, (stats, outputs["logits"].reshape(b, k, k))


def pack_patches(
    patches: Float[Array, "b p p c"], count: int
) -> Float[Array, "n p p d"]:
    """Concatenate ``count`` neighbouring patches on channels, as D judges them."""
    b, h, w, c = patches.shape
    packed = patches.reshape(b // count, count, h, w, c)
    return jnp.moveaxis(packed, 1, 3).reshape(b // count, h, w, count * c)


def critic_loss(
    params, stats, patch, filled, critic: Network, config: Config
) -> tuple[Float[Array, ""], object]:
    """Return the hinge loss of D on real and inpainted patches, and D's statistics."""
    both = [pack_patches(x, config.critic_patches) for x in (patch, filled)]
    outputs, stats = critic.apply(params, stats, jnp.concatenate(both), train=True)
    real, fake = jnp.split(outputs["logits"], 2)
    return losses.critic_hinge(real, fake), stats


def inpainter_loss(
    painted: Painted, patches: Patches, score, config: Config
) -> tuple[Float[Array, ""], Metrics]:
    """Return L_inp,AE of Sec. 4.2.4 without its term -L_SSL.

    Args:
      painted: what F made.
      patches: what it was given.
      score: D's scores of a stack of patches, a function of it.
      config: the weights of the terms.

    Returns:
      The loss and its terms.
    """
    adversarial = -score(pack_patches(painted.filled, config.critic_patches)).mean()
    rim = T.border_mask(config.patch_size, config.border)
    border = losses.masked_mse(painted.filled, patches.patch, rim)
    metrics = {"loss/border": border}
    loss = adversarial + config.lambda_border * border
    if painted.copied is not None:
        copied = jnp.square(painted.copied - patches.patch).mean()
        metrics["loss/autoencode"] = copied
        loss += config.lambda_autoencode * copied
    return loss, metrics


# --- Training


def joint_gradients(
    state: TrainState, draws: Draws, canvases: Array, config: Config, networks: Networks
) -> Gradients:
    """Differentiate the losses of C, F and D at the same parameters.

    F runs forward and backward once: the gradient of -L_SSL with respect to the painted
    patches comes out of C's own backward pass.
    """
    params, stats = state.params, state.stats
    patches = jax.vmap(lambda k, x: draw_patch(k, x, config))(draws.patch, canvases)

    def run_inpainter(inpainter_params):
        return paint(
            networks.inpainter, inpainter_params, stats["inpainter"], patches, config
        )

    def run_classifier(classifier_params, painted):
        views = make_examples(draws, canvases, (patches, painted), config)
        return classifier_loss(
            classifier_params, stats["classifier"], views, networks.classifier
        )

    painted, pull_back, inpainter_stats = jax.vjp(
        run_inpainter, params["inpainter"], has_aux=True
    )
    (loss, (classifier_stats, logits)), (grads, from_classifier) = jax.value_and_grad(
        run_classifier, argnums=(0, 1), has_aux=True
    )(params["classifier"], painted)
    metrics = classifier_metrics(loss, logits, config)
    moved = {"classifier": classifier_stats}
    if config.inpainter == "frozen":
        return Gradients({"classifier": grads}, moved, metrics)

    adversary, from_adversary = adversarial_gradients(
        state, patches, painted, config, networks
    )
    weight = config.lambda_classifier
    cotangent = jax.tree.map(
        lambda own, c: own - weight * c, from_adversary, from_classifier
    )
    (inpainter_grads,) = pull_back(cotangent)
    metrics |= adversary.metrics
    metrics["loss/inpainter"] -= weight * loss
    grads = {"classifier": grads, "inpainter": inpainter_grads} | adversary.grads
    moved |= {"inpainter": inpainter_stats} | adversary.stats
    return Gradients(grads, moved, metrics)


def adversarial_gradients(
    state: TrainState,
    patches: Patches,
    painted: Painted,
    config: Config,
    networks: Networks,
) -> tuple[Gradients, Painted]:
    """Differentiate F's own losses by what it painted, and D's loss by D's parameters.

    Returns:
      D's gradients, statistics and all metrics; the gradient for F to pull back.
    """
    critic = networks.critic
    params, stats = state.params["critic"], state.stats["critic"]

    def score(stack):
        return critic.apply(params, stats, stack, train=False)[0]["logits"]

    (loss, terms), from_losses = jax.value_and_grad(inpainter_loss, has_aux=True)(
        painted, patches, score, config
    )
    (hinge, stats), grads = jax.value_and_grad(critic_loss, has_aux=True)(
        params, stats, patches.patch, painted.filled, critic, config
    )
    metrics = terms | {"loss/inpainter": loss, "loss/critic": hinge}
    return Gradients({"critic": grads}, {"critic": stats}, metrics), from_losses


def classifier_gradients(
    state: TrainState, draws: Draws, canvases: Array, config: Config, networks: Networks
) -> Gradients:
    """Differentiate L_SSL alone, for classes that need no inpainter."""
    views = make_examples(draws, canvases, None, config)
    (loss, (stats, logits)), grads = jax.value_and_grad(classifier_loss, has_aux=True)(
        state.params["classifier"],
        state.stats["classifier"],
        views,
        networks.classifier,
    )
    metrics = classifier_metrics(loss, logits, config)
    return Gradients({"classifier": grads}, {"classifier": stats}, metrics)


def classifier_metrics(
    loss: Float[Array, ""], logits: Float[Array, "b k j"], config: Config
) -> Metrics:
    """Return L_SSL and the share of recognised views, in all and for each class."""
    truth = jnp.arange(len(config.classes))
    right = (jnp.argmax(logits, axis=-1) == truth[None]).mean(axis=0, dtype=jnp.float32)
    metrics = {"loss/classifier": loss, "acc/pretext": right.mean()}
    return metrics | {f"acc/{name}": right[j] for j, name in enumerate(config.classes)}


def init_state(
    key: Key[Array, ""],
    batch: Batch,
    *,
    config: Config,
    networks: Networks,
    txs: Mapping[str, optax.GradientTransformation],
) -> TrainState:
    """Draw every player's first parameters.

    Raises:
      UserError: the batch does not fit the settings.
    """
    b, height, width, channels = batch["image"].shape
    if min(height, width) < config.canvas_size:
        raise UserError(
            f"method.canvas_size is {config.canvas_size}, larger than the images "
            f"({height}x{width}); it must be at most {min(height, width)}."
        )
    if "critic" in config.players and b % config.critic_patches:
        raise UserError(
            f"train.batch_size is {b}, not a multiple of method.critic_patches "
            f"({config.critic_patches}), the patches that the critic judges together."
        )
    patch = jnp.zeros((b, config.patch_size, config.patch_size, channels))
    view = jnp.zeros((b, config.crop_size, config.crop_size, channels))
    params, stats = {}, {}
    for i, player in enumerate(config.players):
        network: Network = getattr(networks, player)
        inputs = view if player == "classifier" else patch
        if player == "critic":
            inputs = pack_patches(patch, config.critic_patches)
        player_key = jax.random.fold_in(key, i)
        params[player], stats[player] = network.init(player_key, inputs)
    opt_state = {player: tx.init(params[player]) for player, tx in txs.items()}
    return TrainState(jnp.zeros((), jnp.int32), params, stats, opt_state)


def differentiate(
    state: TrainState,
    batch: Batch,
    key: Key[Array, ""],
    _number: Int[Array, ""] | None,
    *,
    config: Config,
    networks: Networks,
) -> Gradients:
    """Draw examples, all by the samples' ids, and differentiate all losses."""
    draws = draw_keys(key, batch["id"])
    canvases = cut_canvases(draws, batch["image"], config)
    gradients = joint_gradients if config.inpaints else classifier_gradients
    return gradients(state, draws, canvases, config, networks)


def make_predict_fns(config: Config, networks: Networks) -> dict:
    """Return ``features``, ``logits`` and ``pretext``, all in inference mode of C."""

    def classify(network, state, images):
        params, stats = state.params["classifier"], state.stats["classifier"]
        return network.apply(params, stats, from_pixels(images), train=False)[0]

    def features(state, images):
        return classify(networks.backbone, state, images)

    def logits(state, images):
        return classify(networks.classifier, state, images)["logits"]

    def pretext(state, batch, key):
        draws = draw_keys(key, batch["id"])
        canvases = cut_canvases(draws, batch["image"], config)
        inpainted = None
        if config.inpaints:
            patches = jax.vmap(lambda k, x: draw_patch(k, x, config))(
                draws.patch, canvases
            )
            params, stats = state.params["inpainter"], state.stats["inpainter"]
            painted, _ = paint(networks.inpainter, params, stats, patches, config)
            inpainted = patches, painted
        views = make_examples(draws, canvases, inpainted, config)
        b, k = views.shape[:2]
        answers = logits(state, views.reshape(b * k, *views.shape[2:]))
        pixels = jnp.round((views + 1) * 127.5).astype(jnp.uint8)
        return {"image": pixels, "logits": answers.reshape(b, k, -1)}

    return {"features": features, "logits": logits, "pretext": pretext}


def make_task(
    config: Config,
    networks: Networks,
    txs: Mapping[str, optax.GradientTransformation],
    *,
    micro_batches: int = 1,
) -> Task:
    """Return the task of chapter 4.

    Args:
      config: what is recognised and how examples are made.
      networks: the players.
      txs: one optimizer for each of ``config.trained_players`` (Sec. 4.4: AdamW for C,
        Adam for F and D).
      micro_batches: parts of the batch that go through the networks one after the
        other; see `jaxssl.methods.task.make_gradients`.

    Returns:
      A task whose mini-batches hold uint8 images (b, h, w, c) with sides of at least
      ``canvas_size``; with LCI, b is a multiple of 2 and of ``critic_patches``.
    """
    parts = {"config": config, "networks": networks}
    # Every other row is treated otherwise, and D judges neighbours together.
    judged = config.critic_patches if "critic" in config.players else 1
    gradients = make_gradients(
        functools.partial(differentiate, **parts),
        micro_batches=micro_batches,
        together=math.lcm(2, judged),
    )
    return task_lib.make_task(
        functools.partial(init_state, txs=txs, **parts),
        gradients,
        txs,
        make_predict_fns(config, networks),
    )
