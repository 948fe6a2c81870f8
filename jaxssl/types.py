"""The contracts: Record, Batch, Network, TrainState, Task, Metric, EvalResult.

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
    "SHARE",
    "Array",
    "Batch",
    "Bool",
    "Eval",
    "EvalResult",
    "Float",
    "Int",
    "Key",
    "Metric",
    "Metrics",
    "Network",
    "Num",
    "Outputs",
    "Params",
    "Record",
    "Shaped",
    "Spec",
    "Stats",
    "StepHalves",
    "Task",
    "TrainState",
    "UInt8",
]

Params = Any
"""A pytree of float32 arrays that an optimizer moves."""

Stats = Any
"""A pytree of arrays that a forward pass moves: batch-norm averages and the like."""

Record = Mapping[str, np.ndarray | np.generic]
"""One sample as its source declares it in ``Source.spec``: name to array.

Conventions: ``image`` uint8 (h, w, c); ``clip`` uint8 (t, h, w, c) with ``num_frames``
int32 (); ``views`` uint8 (v, h, w, c); ``pose`` float32; ``label`` int32 (), or (k,)
for k attributes; ``true_label`` like ``label``, where ``label`` is wrong on purpose.
Only what wants an ``image`` or a ``label`` assumes that there is one.
"""

Batch = Mapping[str, Any]
"""The records of a step, stacked: ``(b, ...)`` for each name of ``Source.spec``.

The pipeline changes neither shape nor dtype, and adds ``id`` int32 (b,), the index of
each sample in its data set. Randomness that belongs to a sample is folded in by its
``id``, so the sample gets the same views on any number of devices.
"""

Spec = Mapping[str, jax.ShapeDtypeStruct]
"""Name to shape and dtype, of a record or of a batch."""

Metrics = dict[str, Array]
"""What a step measured: flat, scalar, global means.

Keys are ``group/thing``, as in ``loss/critic``. The group ``acc`` holds shares in
[0, 1], which are shown in percent; other groups have no unit.
"""

Outputs = dict[str, Array]
"""What a network returns: endpoints such as ``conv1`` ... ``conv5`` and ``logits``."""

SHARE = "share"
"""The unit of a metric in [0, 1] that is shown in percent."""


class Metric(NamedTuple):
    """One number that an evaluation found, with all that is needed to show it.

    Attributes:
      value: the number.
      unit: `SHARE` for a value in [0, 1] that is shown in percent; any other unit is
        written behind the number; empty for a number without a unit.
      higher_is_better: None where neither direction is better.
      chance: the value that guessing reaches, where it is known.
      spread: standard deviation over repetitions, where there were some.
    """

    value: float
    unit: str = ""
    higher_is_better: bool | None = None
    chance: float | None = None
    spread: float | None = None


class EvalResult(NamedTuple):
    """What an evaluation found: numbers for tables, arrays for pictures.

    Attributes:
      metrics: the numbers by name.
      arrays: NumPy arrays that the report draws (confusion matrix, retrieval strips).
        A string without axes is a note, which is shown beside the numbers.
    """

    metrics: dict[str, Metric]
    arrays: dict[str, np.ndarray]


class Network(NamedTuple):
    """A network as two pure functions over plain pytrees.

    Attributes:
      init: ``init(key, x) -> (params, stats)``.
      apply: ``apply(params, stats, x, *, train, key=None) -> (outputs, new_stats)``.
        ``outputs`` is a dict of endpoints. ``new_stats`` equals ``stats`` unless
        ``train``; ``key`` feeds dropout, which is active wherever a key is given;
        training may omit it where there is no dropout.
      head: names of the layers that a transfer to another task leaves behind, because
        their size depends on the task: the layers behind the last shared endpoint.
    """

    init: Callable[..., tuple[Params, Stats]]
    apply: Callable[..., tuple[Outputs, Stats]]
    head: tuple[str, ...] = ()


class TrainState(NamedTuple):
    """All that training needs to go on; no key, no function, no config.

    Attributes:
      step: int32 scalar, the number of finished steps.
      params: trainable arrays by player.
      stats: by player, what a forward pass moves: batch-norm averages, power iterates.
      opt_state: optimizer states by player.
      extra: by player or by name, what neither gradients nor forward passes own, such
        as averaged weights or a history buffer. It is not averaged over micro-batches,
        and filling the statistics of an untrained network does not touch it.
    """

    step: Array
    params: dict[str, Params]
    stats: dict[str, Stats]
    opt_state: dict[str, Any]
    extra: dict[str, Any] = {}  # noqa: RUF012 (a default of a NamedTuple, never changed)


class StepHalves(NamedTuple):
    """The two halves of a step whose players move together.

    Attributes:
      gradients: ``gradients(state, batch, key)``, an object with ``grads`` by player.
      update: ``update(state, gradients) -> (TrainState, Metrics)``.
    """

    gradients: Callable[[TrainState, Batch, Key[Array, ""]], Any]
    update: Callable[[TrainState, Any], tuple[TrainState, Metrics]]


class Task(NamedTuple):
    """A method as the loop sees it. It knows no mesh, file, logger or clock.

    Attributes:
      init: ``init(key, batch) -> TrainState``; reads only shapes of ``batch``.
      step: ``step(state, batch, key) -> (TrainState, Metrics)``; ``key`` already
        belongs to this step; the returned state's ``step`` is one higher. Three players
        may move at once, or one after the other, several times in one step.
      predict_fns: named pure functions ``(state, inputs, ...) -> arrays`` that
        evaluations ask for: ``features`` (a dict of endpoints), ``logits``,
        ``samples``, ``pretext``. A task declares those that it has.
      halves: the step as gradients and update, for those who look between the two
        (`jaxssl.verify.device_equivalence`); None where a step has no such halves.
    """

    init: Callable[[Key[Array, ""], Batch], TrainState]
    step: Callable[[TrainState, Batch, Key[Array, ""]], tuple[TrainState, Metrics]]
    predict_fns: Mapping[str, Callable[..., Any]]
    halves: StepHalves | None = None


Eval = Callable[[TrainState], EvalResult]
"""An evaluation, closed over its data and settings. It leaves the state untouched."""
