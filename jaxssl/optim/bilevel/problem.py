"""What every strategy works on: one gradient a mini-batch, and its state and key."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxssl.optim.bilevel import groups as grouping
from jaxssl.optim.bilevel.groups import Groups, Leaves
from jaxssl.types import Array, Float, Key, Params

RNG_MODES = (None, "shared", "split")
REDUCE_STATES = (None, "sequential", "mean", "last")


class Side(NamedTuple):
    """What a mini-batch brings besides its gradient.

    Attributes:
      loss: its loss.
      state: the state after it; () where there is none.
      aux: what else the loss returns; () where there is nothing.
    """

    loss: Float[Array, "*k"]
    state: Any
    aux: Any


class Problem(NamedTuple):
    """The loss at the current parameters.

    Attributes:
      loss_fn: the user's.
      params: all parameters.
      groups: which of them count.
      has_aux: whether the loss returns more than that (and its state).
      reduce_state: None, or what becomes of the k states.
      rng_mode: None, or which mini-batch gets which key.
      key: None, or the step's key.
    """

    loss_fn: Callable[..., Any]
    params: Params
    groups: Groups
    has_aux: bool
    reduce_state: str | None
    rng_mode: str | None
    key: Key[Array, ""] | None

    def loss(
        self, leaves: Leaves, minibatch: Any, index: Any, state: Any
    ) -> tuple[Float[Array, ""], Side]:
        """Return the loss of mini-batch ``index``, as a function of what is trained.

        Raises:
          ValueError: the loss is no scalar, or comes with more or less than it should.
        """
        extra = {}
        if self.reduce_state is not None:
            extra["state"] = state
        if self.rng_mode == "shared":
            extra["key"] = self.key
        elif self.key is not None:
            extra["key"] = jax.random.fold_in(self.key, index)
        params = grouping.put(self.groups, leaves, self.params)
        value = self.loss_fn(params, minibatch, **extra)
        new_state, aux = (), ()
        if self.has_aux and self.reduce_state is not None:
            value, rest = _pair(value, "(loss, (state, aux))")
            new_state, aux = _pair(rest, "(loss, (state, aux))")
        elif self.has_aux:
            value, aux = _pair(value, "(loss, aux)")
        elif self.reduce_state is not None:
            value, new_state = _pair(value, "(loss, state)")
        if isinstance(value, tuple):
            raise ValueError(
                f"loss_fn must return the loss alone; got a tuple of {len(value)}. Set "
                "has_aux=True or reduce_state where it returns more."
            )
        if jnp.shape(value) != ():
            raise ValueError(
                f"loss_fn must return a scalar for one mini-batch; got shape "
                f"{jnp.shape(value)}. Take the mean over the mini-batch."
            )
        return value, Side(value, new_state, aux)

    def gradient(self, minibatch: Any, index: Any, state: Any) -> tuple[Side, Leaves]:
        """Return what mini-batch ``index`` brings, and its gradient."""
        take = jax.value_and_grad(self.loss, has_aux=True)
        (_, side), gradient = take(self.leaves(), minibatch, index, state)
        return side, gradient

    def leaves(self) -> Leaves:
        """Return the parameters that are trained."""
        return grouping.pick(self.groups, self.params)


def _pair(value: Any, form: str) -> tuple[Any, Any]:
    """Return the two parts of what a loss returns.

    Raises:
      ValueError: there are not two.
    """
    if isinstance(value, tuple | list) and len(value) == 2:
        return value[0], value[1]
    parts = f"{len(value)} parts" if isinstance(value, tuple | list) else "one value"
    raise ValueError(
        f"loss_fn must return {form} as has_aux and reduce_state are set; got {parts}."
    )


def minibatch_at(batch: Any, index: Any) -> Any:
    """Return mini-batch ``index`` of ``[k, B, ...]``, without copying the others."""

    def take(x):
        return jax.lax.dynamic_index_in_dim(x, index, keepdims=False)

    return jax.tree.map(take, batch)


def reduce_states(states: Any, how: str | None) -> Any:
    """Return one state of ``[k, ...]``: their mean, or the last.

    Whole numbers, such as counters, are always the last.
    """
    if how == "mean":
        return jax.tree.map(lambda x: x.mean(0) if _real(x) else x[-1], states)
    return jax.tree.map(lambda x: x[-1], states)


def next_mean(mean: Any, new: Any, count: Any) -> Any:
    """Return the mean of ``count + 1`` states from that of the first ``count``."""

    def move(old, new):
        if not _real(new):
            return new
        return (old + (new - old) / jnp.asarray(count + 1, new.dtype)).astype(new.dtype)

    return jax.tree.map(move, mean, new)


def _real(x: Any) -> bool:
    return jnp.issubdtype(jnp.result_type(x), jnp.inexact)
