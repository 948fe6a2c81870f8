"""Learn from labels: plain SGD, and deep bilevel learning (chapter 8).

S. Jenni and P. Favaro, "Deep Bilevel Learning", ECCV 2018. Labels may be wrong, or few.
A step draws k mini-batches with the same labels; gradients that agree with that of the
first count much, gradients that disagree are ascended. Three learners (`learners`)
share everything else:

| learner | mini-batches | update |
|---|---|---|
| sgd | one of all images of the step | its gradient |
| ghost | k with the same labels | the mean of the k gradients |
| bilevel | k with the same labels | sum of w_i g_i, i = 1 .. k - 1 (eq. 8.11) |

`sgd` is also the supervised baseline of Tables 4.4 to 4.7, and fine-tuning, with
``init_from={"classifier": <workdir>}``: all layers start from the pre-trained player
"classifier", except a last layer for another number of classes.

| thesis | code | where |
|---|---|---|
| eqs. 8.10 and 8.11 | ``learner_gradient``, `jaxssl.optim.bilevel` | Sec. 8.3 |
| label-matched mini-batches | ``MatchedOrder`` | Sec. 8.4.1, Remark 1 |
| validation ratio | ``Learner.val_ratio`` | Figure 8.2 |
| no L1-constraint (a), weights per layer (b) | ``normalize``, ``weights`` | Table 8.1 |
| mini-batch sampling (c), dropout (d) | ``sampling``, ``dropout_masks`` | Table 8.1 |
| crops, brightness, contrast | ``labelled_views`` | Sec. 8.4.1 |
| label smoothing; mixup, and bilevel + mixup | ``make_targets``, ``mix`` | Table 8.3 |
| noisy labels, permuted pixels | `jaxssl.data.corruption` | Sec. 8.4.2, 8.4.3 |
| several labels an image (VOC) | ``Config.labels`` | Sec. 8.4.4 |

Deviations. Mixup mixes the k mini-batches alike, so that their labels stay the same;
the thesis does not say how it joins the two. Table 4.7 augments "similar to [149]"
(IIC), which jitters colours by 0.4, 0.4, 0.4 and 0.125, too;
configs/classify_resnet34_stl10.py has crops and flips.
"""

import functools
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxssl import losses
from jaxssl.errors import UserError
from jaxssl.methods import task as task_lib
from jaxssl.methods.bilevel import (
    Learner,
    MatchedOrder,
    learner_gradient,
    split_places,
    weight_metrics,
)
from jaxssl.methods.labelled_views import (
    Config,
    make_targets,
    make_views,
    mix,
    random_views,
    to_input,
)
from jaxssl.methods.task import Gradients, make_gradients
from jaxssl.types import (
    Array,
    Batch,
    Float,
    Int,
    Key,
    Network,
    Params,
    Stats,
    Task,
    TrainState,
)

__all__ = [
    "Config",
    "Learner",
    "MatchedOrder",
    "Networks",
    "make_loss",
    "make_task",
    "random_views",
]

LOSSES = {
    "classes": losses.soft_cross_entropy,
    "attributes": losses.attribute_cross_entropy,
}
ACCURACIES = {"classes": losses.accuracy, "attributes": losses.attribute_accuracy}


class Networks(NamedTuple):
    """The classifier, and the same without its head for reading features.

    Attributes:
      classifier: ``logits`` has one column for each class.
      backbone: the endpoints at any image size, on the classifier's parameters.
    """

    classifier: Network
    backbone: Network


# --- Training


def make_loss(config: Config, network: Network, mix_key: Key[Array, ""]) -> Callable:
    """Return the mean loss of one mini-batch, with its statistics and logits."""

    def loss_fn(
        params: Params, minibatch: Batch, *, state: Stats, key: Key[Array, ""]
    ) -> tuple[Float[Array, ""], tuple[Stats, Float[Array, "b n"]]]:
        x = to_input(minibatch["image"], config)
        x = mix(mix_key, x, config.mixup)
        outputs, stats = network.apply(params, state, x, train=True, key=key)
        logits = outputs["logits"]
        targets = make_targets(minibatch["label"], logits.shape[-1], config)
        targets = mix(mix_key, targets, config.mixup)
        cross_entropy = LOSSES[config.labels]
        return cross_entropy(logits, targets), (stats, logits)

    return loss_fn


def init_state(
    key: Key[Array, ""],
    batch: Batch,
    *,
    config: Config,
    networks: Networks,
    txs: Mapping[str, optax.GradientTransformation],
) -> TrainState:
    """Draw the classifier's first parameters."""
    b, channels = len(batch["image"]), batch["image"].shape[-1]
    x = jnp.zeros((b, config.crop_size, config.crop_size, channels))
    params, stats = networks.classifier.init(key, x)
    opt_state = {"classifier": txs["classifier"].init(params)}
    step = jnp.zeros((), jnp.int32)
    return TrainState(step, {"classifier": params}, {"classifier": stats}, opt_state)


def differentiate(
    state: TrainState,
    batch: Batch,
    key: Key[Array, ""],
    number: Int[Array, ""] | None,
    *,
    config: Config,
    learner: Learner,
    networks: Networks,
) -> Gradients:
    """Make views and return the learner's gradient."""
    _check_labels(batch["label"], config)
    view_key, network_key, mix_key = jax.random.split(key, 3)
    if number is not None:
        network_key, mix_key = (
            jax.random.fold_in(k, number) for k in (network_key, mix_key)
        )
    seen = {**batch, "image": make_views(view_key, batch, config)}
    minibatches = split_places(seen, 1 if learner.name == "sgd" else learner.k)
    loss_fn = make_loss(config, networks.classifier, mix_key)
    params, stats = state.params["classifier"], state.stats["classifier"]
    loss, stats, logits, gradient, info = learner_gradient(
        loss_fn, learner, params, stats, minibatches, network_key
    )
    metrics = {
        "loss/classifier": loss,
        "acc/classifier": ACCURACIES[config.labels](logits, minibatches["label"]),
    }
    if info is not None:
        metrics |= weight_metrics(info, minibatches)
    return Gradients({"classifier": gradient}, {"classifier": stats}, metrics)


def _check_labels(labels: Int[Array, "b ..."], config: Config) -> None:
    wanted = {"classes": 1, "attributes": 2}[config.labels]
    if labels.ndim != wanted:
        other = "attributes" if wanted == 1 else "classes"
        raise UserError(
            f"method.labels is {config.labels!r}, but this data set has labels of "
            f"shape {labels.shape[1:]} each; set method.labels to {other!r}."
        )


def make_predict_fns(config: Config, networks: Networks) -> dict:
    """Return ``features``, ``logits``, and ``sampled_logits`` with dropout active."""

    def apply(network, state, images, key=None):
        params, stats = state.params["classifier"], state.stats["classifier"]
        x = to_input(images, config)
        return network.apply(params, stats, x, train=False, key=key)[0]

    def features(state, images):
        return apply(networks.backbone, state, images)

    def logits(state, images):
        return apply(networks.classifier, state, images)["logits"]

    def sampled_logits(state, images, key):
        return apply(networks.classifier, state, images, key)["logits"]

    return {"features": features, "logits": logits, "sampled_logits": sampled_logits}


def make_task(
    config: Config,
    networks: Networks,
    txs: Mapping[str, optax.GradientTransformation],
    learner: Learner | None = None,
    *,
    micro_batches: int = 1,
) -> Task:
    """Return the task of learning from labels.

    Args:
      config: what the classifier sees.
      networks: the classifier and its backbone.
      txs: the optimizer of the player "classifier".
      learner: how labels become an update; plain SGD by default. The others take rows
        as `MatchedOrder` draws them.
      micro_batches: parts of the batch that go through the network one after the other;
        see `jaxssl.methods.task.make_gradients`. Each has rows of all k mini-batches
        of ``ghost``.

    Returns:
      A task whose mini-batches hold uint8 images (b, h, w, c) with sides of at least
      ``crop_size`` and one label each, or several.

    Raises:
      UserError: micro-batches of bilevel learning.
    """
    learner = learner or Learner()
    if learner.name == "bilevel" and micro_batches != 1:
        raise UserError(
            f"compute.micro_batches is {micro_batches}, but learner.name is 'bilevel', "
            "whose weights compare the gradients of whole mini-batches, one of k in "
            "memory at a time; leave it at 1."
        )
    gradients = make_gradients(
        functools.partial(
            differentiate, config=config, networks=networks, learner=learner
        ),
        micro_batches=micro_batches,
        together=1 if learner.name == "sgd" else learner.k,
    )
    return task_lib.make_task(
        functools.partial(init_state, config=config, networks=networks, txs=txs),
        gradients,
        txs,
        make_predict_fns(config, networks),
    )
