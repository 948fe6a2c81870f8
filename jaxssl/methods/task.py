"""From the gradients of a method to its step: what all tasks share."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import optax

from jaxssl.config import fields
from jaxssl.errors import UserError
from jaxssl.optim import microbatch
from jaxssl.types import (
    Array,
    Batch,
    Int,
    Key,
    Metrics,
    StepHalves,
    Task,
    TrainState,
)


class Gradients(NamedTuple):
    """What one forward and backward pass gives.

    Attributes:
      grads: gradients by player, of the players that are trained.
      stats: new statistics by player; a player that is left out keeps its own.
      metrics: of the batch.
    """

    grads: dict
    stats: dict
    metrics: Metrics


Differentiate = Callable[
    [TrainState, Batch, Key[Array, ""], Int[Array, ""] | None], Gradients
]
"""Takes a state, rows, the step's key and the micro-batch's number, None for all rows.

What is drawn for a sample follows from the key and the sample's id alone. What is drawn
for a batch, such as the masks of dropout, follows from the key and the number.
"""


def make_gradients(
    differentiate: Differentiate, *, micro_batches: int = 1, together: int = 1
) -> Callable[[TrainState, Batch, Key[Array, ""]], Gradients]:
    """Return the gradients of a step, over all micro-batches.

    Args:
      differentiate: gradients of some rows.
      micro_batches: how many share the batch; 1 takes the batch at once.
      together: neighbouring rows that belong to one micro-batch.

    Returns:
      A function of state, batch and key, for `make_task`. Gradients, statistics and
      metrics are means over the micro-batches: running averages move once a step, to
      the mean of what each micro-batch moves them to.

    Raises:
      UserError: less than one micro-batch; at trace time, if they do not share the
        batch evenly.
    """
    fields.convert(micro_batches, fields.Count, "compute.micro_batches")

    def gradients(state: TrainState, batch: Batch, key: Key[Array, ""]) -> Gradients:
        if micro_batches == 1:
            return differentiate(state, batch, key, None)
        size, share = len(batch["id"]), micro_batches * together
        if size % share:
            groups = f" in groups of {together} rows" if together > 1 else ""
            raise UserError(
                f"compute.micro_batches is {micro_batches}, which cannot share "
                f"train.batch_size {size} evenly{groups}; give a divisor of "
                f"{max(size // together, 1)}, or a batch that is a multiple of {share}."
            )
        return microbatch.mean(
            lambda rows, number: differentiate(state, rows, key, number),
            batch,
            num_micro=micro_batches,
            together=together,
        )

    return gradients


def make_task(
    init: Callable[[Key[Array, ""], Batch], TrainState],
    gradients: Callable[[TrainState, Batch, Key[Array, ""]], Gradients],
    txs: Mapping[str, optax.GradientTransformation],
    predict_fns: Mapping[str, Callable],
    *,
    update_extra: Callable[[TrainState], dict[str, Any]] | None = None,
) -> Task:
    """Return a task whose players move together, each by its own optimizer.

    Args:
      init: draws the first state.
      gradients: see `make_gradients`.
      txs: the optimizer of each player that is trained.
      predict_fns: what evaluations ask for.
      update_extra: from a state with its new parameters and statistics and its old
        ``extra`` to the new ``extra``, such as averaged weights. It runs once a step,
        after the optimizers, however many micro-batches there are. None leaves
        ``extra`` as it is.

    Returns:
      The task; its step is the second of its ``halves`` after the first.
    """

    def update(state: TrainState, computed: Gradients) -> tuple[TrainState, Metrics]:
        params, opt_state = dict(state.params), {}
        for player, tx in txs.items():
            updates, opt_state[player] = tx.update(
                computed.grads[player], state.opt_state[player], state.params[player]
            )
            params[player] = optax.apply_updates(state.params[player], updates)
        stats = state.stats | computed.stats
        new = state._replace(
            step=state.step + 1, params=params, stats=stats, opt_state=opt_state
        )
        if update_extra is not None:
            new = new._replace(extra=update_extra(new))
        return new, computed.metrics

    def step(
        state: TrainState, batch: Batch, key: Key[Array, ""]
    ) -> tuple[TrainState, Metrics]:
        return update(state, gradients(state, batch, key))

    return Task(init, step, predict_fns, StepHalves(gradients, update))
