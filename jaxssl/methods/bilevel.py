"""Deep bilevel learning (thesis chapter 8), and the two ways that it has to beat.

S. Jenni and P. Favaro, "Deep Bilevel Learning", ECCV 2018. Labels may be wrong, or few.
A step draws k mini-batches with the same labels. One of them plays the validation set;
the gradients of the others are weighted by how well they agree with its gradient, and a
gradient that disagrees is ascended. What most mini-batches agree on generalises; labels
that are wrong at random are memorised late, if at all. `jaxssl.methods.classify` has
the views, the loss and the task; here is how labels become an update:

| learner | mini-batches | update |
|---|---|---|
| sgd | one of all images of the step | its gradient (8.2) |
| ghost | k with the same labels | the mean of the k gradients |
| bilevel | k with the same labels | sum of w_i g_i, i = 1 .. k - 1 (8.11) |

The three are compared at equal visits of samples (Table 8.1). ``ghost`` is not in the
thesis; it has the mini-batches of ``bilevel``, with batch norm over each alone, and
shows what the weights add.

| thesis | code | where |
|---|---|---|
| l_i, a mean here | ``loss_fn`` of `jaxssl.methods.classify.make_loss` | (8.1) |
| U, V and T: mini-batches, number 0, the others | ``k``, `split_places` | Sec. 8.2 |
| labels that mini-batches share | `MatchedOrder` | Remark 1, Sec. 8.3 |
| share of each class in V alone | ``Learner.val_ratio`` | Figure 8.2 |
| lambda-hat, mu-hat | ``Learner.lam``, ``Learner.mu`` | (8.7) |
| omega_i, omega-hat | `jaxssl.optim.bilevel.solve_weights`, ``info.weights`` | (8.10) |
| sum of omega-hat_i nabla l_i | `learner_gradient` | (8.11), Sec. 8.3 |
| no L1-constraint (a), weights per layer (b) | ``normalize``, ``weights`` | Table 8.1 |
| mini-batch sampling (c), dropout (d) | ``sampling``, ``dropout_masks`` | Table 8.1 |

`jaxssl.optim.bilevel` writes the equations out and lists where the thesis and the
released code differ. Deviations here: the loss is a mean over a mini-batch, not the sum
of (8.1), so mu-hat means the same for every size of mini-batch; and shuffles and queues
of `MatchedOrder` are one function of the step, so that a resumed run goes on exactly.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxssl.config import fields
from jaxssl.data.labels import NO_LABEL
from jaxssl.errors import UserError
from jaxssl.optim import bilevel
from jaxssl.types import Array, Batch, Float, Int, Metrics, Params, Stats

WEIGHT_BINS = 20
"""Bins of the histogram of weights, evenly over [-1, 1]."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Learner:
    """How labels become an update (Table 8.1).

    ``sgd`` reads ``name`` alone; ``ghost`` reads ``name``, ``k``, ``sampling`` and
    ``dropout_masks``. A setting that the learner does not read has to stay at its
    default.

    Attributes:
      name: ``sgd``, ``ghost`` or ``bilevel``.
      k: mini-batches a step; they share ``train.batch_size`` evenly.
      lam: lambda-hat of (8.10).
      mu: mu-hat of (8.10).
      normalize: ``l1`` for |w|_1 = 1, ``none`` for ablation a.
      weights: ``network`` for one weight a mini-batch, ``layer`` for one weight a
        mini-batch and layer (ablation b).
      sampling: ``matched``, or ``random`` (ablation c). Images with several labels need
        ``random``.
      dropout_masks: ``shared`` by the k mini-batches (thesis), or ``split`` (released
        code, ablation d).
      val_ratio: share of each class that is for validation only; 0 lets every image
        play both parts over time.
    """

    name: str = fields.choice("sgd", ("sgd", "ghost", "bilevel"))
    k: int = fields.number(8, at_least=2, at_most=4096)
    lam: float = fields.number(1.0, above=0, at_most=1e9)
    mu: float = fields.number(0.01, above=0, at_most=1e9)
    normalize: str = fields.choice("l1", ("l1", "none"))
    weights: str = fields.choice("network", ("network", "layer"))
    sampling: str = fields.choice("matched", ("matched", "random"))
    dropout_masks: str = fields.choice("shared", ("shared", "split"))
    val_ratio: float = fields.number(0.0, at_least=0, below=1)

    def __post_init__(self) -> None:
        """Raise UserError where no training is possible."""
        fields.validate(self)
        self._check_unread()
        if self.val_ratio and self.sampling != "matched":
            raise UserError(
                f"val_ratio is {self.val_ratio}; it needs sampling='matched'. Set it "
                "to 0."
            )

    def _check_unread(self) -> None:
        """Raise where a setting is changed that this learner does not read."""
        read = {
            "sgd": {"name"},
            "ghost": {"name", "k", "sampling", "dropout_masks"},
            "bilevel": {field.name for field in dataclasses.fields(self)},
        }[self.name]
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name not in read and value != field.default:
                raise UserError(
                    f"{field.name} is {value!r}, but name is {self.name!r}, which does "
                    f"not read it; leave it at {field.default!r}."
                )


# --- Sec. 8.4.1 Mini-batches with the same labels


class MatchedOrder:
    """The images of each step: k mini-batches with the same labels, place by place.

    Row ``b * k + i`` is image b of mini-batch i, so devices that share the rows evenly
    share every mini-batch evenly; see `split_places`.
    """

    def __init__(
        self,
        labels: Int[np.ndarray, " n"],
        learner: Learner,
        *,
        batch_size: int,
        seed: int,
    ):
        """Sort the images by the labels that training sees.

        Args:
          labels: those that training sees; images without one (-1) are never drawn.
          learner: its ``k`` and ``val_ratio``.
          batch_size: rows of a batch; k mini-batches share it evenly.
          seed: decides all draws.

        Raises:
          UserError: a class is too small, or there are too few labels.
        """
        held_out = None
        if learner.val_ratio:
            held_out = _validation_part(labels, learner.val_ratio, seed)
        _check_classes(labels, held_out, learner)
        places = batch_size // learner.k
        num_labels = int((labels != NO_LABEL).sum())
        if places > num_labels:
            raise UserError(
                f"train.batch_size is {batch_size}: {places} labels a mini-batch, more "
                f"than the {num_labels} of the data set. Take a smaller batch."
            )
        self._sampler = bilevel.LabelMatchedSampler(
            labels,
            k=learner.k,
            per_minibatch=places,
            seed=seed,
            val_indices=held_out,
        )

    def __call__(self, step: int) -> Int[np.ndarray, " b"]:
        """Return the images of a step."""
        return self._sampler(step).T.reshape(-1)


def _validation_part(
    labels: Int[np.ndarray, " n"], ratio: float, seed: int
) -> Int[np.ndarray, " v"]:
    """Draw a share of each class, at least one image of each."""
    # The raw stream: NumPy promises that it never changes.
    stream = np.random.PCG64(np.random.SeedSequence([seed, 1]))
    draw = np.argsort(stream.random_raw(len(labels)), kind="stable")
    parts = []
    for label in _classes(labels):
        members = draw[labels[draw] == label]
        parts.append(members[: max(1, round(ratio * len(members)))])
    return np.sort(np.concatenate(parts))


def _classes(labels: Int[np.ndarray, " n"]) -> Int[np.ndarray, " k"]:
    return np.unique(labels[labels != NO_LABEL])


def _check_classes(
    labels: Int[np.ndarray, " n"],
    held_out: Int[np.ndarray, " v"] | None,
    learner: Learner,
) -> None:
    """Raise where a class cannot give each mini-batch an image of its own."""
    train = labels if held_out is None else np.delete(labels, held_out)
    needed = learner.k - (held_out is not None)
    counts = {int(c): int((train == c).sum()) for c in _classes(labels)}
    if small := [label for label, count in counts.items() if count < needed]:
        raise UserError(
            f"learner.sampling is 'matched', but class {small[0]} has "
            f"{counts[small[0]]} images for {needed} mini-batches of training "
            f"(learner.k is {learner.k}). Take a smaller learner.k, more images, or "
            "learner.sampling=random."
        )


def split_places(batch: Batch, k: int) -> dict[str, Any]:
    """Cut rows as `MatchedOrder` lays them into k mini-batches, [k, B, ...]."""

    def split(x):
        return x.reshape(-1, k, *x.shape[1:]).swapaxes(0, 1)

    return {name: split(x) for name, x in batch.items()}


# --- Sec. 8.3 From mini-batches to a gradient


def learner_gradient(
    loss_fn: Callable, learner: Learner, params: Params, stats: Stats, batch, key
) -> tuple[Float[Array, ""], Stats, Float[Array, "k b n"], Params, bilevel.Info | None]:
    """Return the gradient of a step, with the loss, the statistics and the logits.

    Args:
      loss_fn: ``loss_fn(params, minibatch, *, state, key) -> (loss, (state, logits))``.
      learner: how the gradient is made.
      params: of the classifier.
      stats: of the classifier; each mini-batch moves them, one after the other.
      batch: mini-batches [k, B, ...]; one, [1, b, ...], for ``sgd``.
      key: for dropout.

    Returns:
      The mean loss, the statistics, the logits of all mini-batches, the gradient, and
      the weights (None but for ``bilevel``).
    """
    if learner.name == "sgd":
        whole = jax.tree.map(lambda x: x[0], batch)
        value_and_grad = jax.value_and_grad(loss_fn, has_aux=True)
        (loss, (stats, logits)), gradient = value_and_grad(
            params, whole, state=stats, key=key
        )
        return loss, stats, logits[None], gradient, None
    shared: dict[str, Any] = {
        "k": learner.k,
        "has_aux": True,
        "rng_mode": learner.dropout_masks,
        "reduce_state": "sequential",
    }
    if learner.name == "ghost":
        f = bilevel.mean_value_and_grad(loss_fn, **shared)
        (loss, (stats, logits)), gradient = f(params, batch, state=stats, key=key)
        return loss, stats, logits, gradient, None
    f = bilevel.value_and_grad(
        loss_fn,
        **shared,
        lam=learner.lam,
        mu=learner.mu,
        normalize=None if learner.normalize == "none" else learner.normalize,
        per_layer=bilevel.by_layer if learner.weights == "layer" else None,
    )
    (loss, (stats, logits)), gradient, info = f(params, batch, state=stats, key=key)
    return loss, stats, logits, gradient, info


def weight_metrics(info: bilevel.Info, batch: Batch) -> Metrics:
    """Return what the weights of a step were.

    Args:
      info: from `bilevel.value_and_grad`.
      batch: mini-batches [k, B, ...]; ``true_label`` where the labels were corrupted.

    Returns:
      ``bilevel/cosine`` with the validation gradient, the share ``bilevel/negative`` of
      weights, and of steps that were ``bilevel/skipped``; the share of weights in each
      bin, ``weights/bin00`` and so on; and the mean weight of images whose label is
      right, ``bilevel/clean``, and wrong, ``bilevel/corrupted``, 0 in a step without
      any: means over steps have to be divided by those of ``weights/has_clean`` and
      ``weights/has_corrupted``.
    """
    weights = info.weights.reshape(-1, info.weights.shape[-1])  # layers k-1
    places = jnp.floor((weights + 1) * (WEIGHT_BINS / 2))
    places = jnp.clip(places, 0, WEIGHT_BINS - 1)
    assert info.cosine is not None  # Eq. 8.10 knows the norms.
    metrics = {
        "bilevel/cosine": jnp.mean(info.cosine),
        "bilevel/negative": jnp.mean(weights < 0),
        "bilevel/skipped": jnp.mean(info.skipped, dtype=jnp.float32),
    }
    for i in range(WEIGHT_BINS):
        metrics[f"weights/bin{i:02d}"] = jnp.mean(places == i)
    if "true_label" in batch:
        right = (batch["label"] == batch["true_label"])[1:]
        of_minibatch = weights.mean(axis=0)
        for name, counts in (("clean", right), ("corrupted", ~right)):
            shares = counts.sum(axis=1) / jnp.maximum(counts.sum(), 1)
            metrics[f"bilevel/{name}"] = (of_minibatch * shares).sum()
            metrics[f"weights/has_{name}"] = counts.any().astype(jnp.float32)
    return metrics
