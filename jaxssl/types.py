"""The contracts: array aliases, Batch, Metrics, Network, TrainState, Task.

Everything else in jaxssl is written against these few names. A *player* is a network
that is trained with its own loss and optimizer ("classifier", "inpainter", "critic").
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float, Int, Key, Num, Shaped, UInt8
else:
    try:  # The extra `test` brings jaxtyping; shapes are checked under pytest only.
        from jaxtyping import Array, Bool, Float, Int, Key, Num, Shaped, UInt8
    except ModuleNotFoundError:  # The base install: annotations lose their shapes.
        Array = jax.Array

        class _Unchecked:
            def __class_getitem__(cls, item):
                return Any

        Bool = Float = Int = Key = Num = Shaped = UInt8 = _Unchecked

__all__ = [
    "Array",
    "Batch",
    "Bool",
    "Eval",
    "EvalResult",
    "Float",
    "Int",
    "Key",
    "Metrics",
    "Network",
    "Num",
    "Outputs",
    "Params",
    "Shaped",
    "Stats",
    "Task",
    "TrainState",
    "UInt8",
    "UserError",
]

Params = Any
"""A pytree of float32 arrays that an optimizer moves."""

Stats = Any
"""A pytree of arrays that a forward pass moves: batch-norm averages and the like."""

Batch = Mapping[str, Any]
"""``image`` uint8 (b, h, w, c), ``label`` int32 (b,) or (b, k), ``id`` int32 (b,).

``id`` is the index of the sample in its data set: randomness that belongs to a sample
is folded in by it, so the sample gets the same views on any number of devices. Records
may hold more: ``true_label`` like ``label``, where ``label`` may be wrong on purpose.
"""

Metrics = dict[str, Array]
"""Flat, scalar, global means; keys are ``group/thing``, as in ``loss/critic``."""

Outputs = dict[str, Array]
"""What a network returns: feature taps (``conv1`` ... ``conv5``) and ``logits``."""


class UserError(ValueError):
    """A mistake in what the user asked for, told in one line.

    The line names what was given, what is allowed and what to do. The command line
    prints it and exits with code 2; from Python it is an ordinary ValueError.
    """


class EvalResult(NamedTuple):
    """What an evaluation found: numbers for tables, arrays for pictures.

    Attributes:
      scalars: name to Python float; accuracies and precisions are in [0, 1].
      arrays: NumPy arrays that the report draws (confusion matrix, retrieval strips).
    """

    scalars: dict[str, float]
    arrays: dict[str, np.ndarray]


class Network(NamedTuple):
    """A network as two pure functions over plain pytrees.

    Attributes:
      init: ``init(key, x) -> (params, stats)``.
      apply: ``apply(params, stats, x, *, train, key=None) -> (outputs, new_stats)``.
        ``outputs`` is a dict of feature taps. ``new_stats`` equals ``stats`` unless
        ``train``; ``key`` feeds dropout, which is active wherever a key is given;
        training may omit it where there is no dropout.
    """

    init: Callable[..., tuple[Params, Stats]]
    apply: Callable[..., tuple[Outputs, Stats]]


class TrainState(NamedTuple):
    """All that training needs to go on; no key, no function, no config.

    Attributes:
      step: int32 scalar, the number of finished steps.
      params: trainable arrays by player.
      stats: batch-norm averages and power iterates by player.
      opt_state: optimizer states by player.
    """

    step: Array
    params: dict[str, Params]
    stats: dict[str, Stats]
    opt_state: dict[str, Any]


class Task(NamedTuple):
    """A method as the loop sees it. It knows no mesh, file, logger or clock.

    Attributes:
      init: ``init(key, batch) -> TrainState``; reads only shapes of ``batch``.
      step: ``step(state, batch, key) -> (TrainState, Metrics)``; ``key`` already
        belongs to this step; the returned state's ``step`` is one higher.
      readouts: named pure functions ``(state, batch, ...) -> arrays`` that evaluations
        ask for: ``features`` (dict of taps), ``logits``, ``pretext``; and what the step
        is made of, ``gradients`` and ``update`` (`jaxssl.methods.update.make_task`).
    """

    init: Callable[[Key[Array, ""], Batch], TrainState]
    step: Callable[[TrainState, Batch, Key[Array, ""]], tuple[TrainState, Metrics]]
    readouts: Mapping[str, Callable[..., Any]]


Eval = Callable[[TrainState], EvalResult]
"""An evaluation, closed over its data and settings. It leaves the state untouched."""
