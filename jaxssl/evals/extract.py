"""The one loop over a data set: records through a network, rows to the host."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxssl.data import pipeline
from jaxssl.data.source import Source
from jaxssl.errors import UserError
from jaxssl.types import Array, Batch, Shaped, TrainState

PredictFns = Mapping[str, Callable[..., Any]]
"""``Task.predict_fns``: named pure functions of a state and some inputs."""

Prepare = Callable[[Batch], Any]
"""From a batch to the inputs of a network: a pytree of arrays (b, v, ...).

``v`` is the number of views of a record: 1 for one crop of an image or one clip of a
video. The function is pure, because it is compiled together with the network. It is
hashable, because evaluations share what they compute by predict_fn and ``prepare``.
"""

Forward = Callable[[TrainState, Batch], dict[str, Array]]
"""A compiled function from a state and a batch to named arrays (b, ...)."""


class Extracted(NamedTuple):
    """What was computed for a data set and kept of its records, on the host.

    Attributes:
      outputs: arrays (n, ...) of the forward pass by name.
      records: arrays (n, ...) of the records by name; always the ``id``. Records that
        cannot be read are left out of both.
    """

    outputs: dict[str, np.ndarray]
    records: dict[str, np.ndarray]


def extract(
    forward: Forward,
    state: TrainState,
    source: Source,
    *,
    batch_size: int,
    keep: Sequence[str] = (),
    optional: Sequence[str] = (),
    limits: Mapping[str, int] = MappingProxyType({}),
) -> Extracted:
    """Run a compiled function over every record of a data set, in order.

    The batches are put beside the state explicitly, so evaluations run under a transfer
    guard. Every batch has the same shape, so one data set needs one compilation.

    Args:
      forward: the compiled function.
      state: the network, on one device or replicated over several; no leaf changes.
      source: the data set.
      batch_size: records a forward pass; the padding of the last batch is dropped.
      keep: arrays of the records that are kept.
      optional: arrays of the records that are kept where the data set has them.
      limits: name of an output or of a kept array to the number of its first rows that
        are kept, for pictures; all rows of the others are kept.

    Returns:
      The outputs and the kept arrays.

    Raises:
      UserError: the data set lacks an array of ``keep``, or an output is not finite.
    """
    outputs: dict[str, list[np.ndarray]] = {}
    records: dict[str, list[np.ndarray]] = {}
    check_arrays(source, keep)
    names = (*keep, *(name for name in optional if name in source.spec), "id")
    for batch, mask in pipeline.epoch(source, batch_size=batch_size):
        _append(records, {name: batch[name] for name in names}, mask, limits)
        _append(outputs, forward(state, _place(batch, state)), mask, limits)
    extracted = Extracted(_joined(outputs), _joined(records))

    def name_record(row: int) -> str:
        return source.record_name(int(extracted.records["id"][row]))

    for name, rows in extracted.outputs.items():
        check_rows(f"the outputs {name}".rstrip(), rows, name_record)
    return extracted


def check_rows(
    what: str, rows: Shaped[np.ndarray, "n ..."], record_name: Callable[[int], str]
) -> None:
    """Raise unless what a network gave is finite.

    Args:
      what: what was given, for the message.
      rows: one row a record; integers are finite.
      record_name: from a row to what a person calls the record.

    Raises:
      UserError: names the first record that is not, and how many are not.
    """
    if rows.dtype.kind in "iub" or np.isfinite(rows).all():
        return
    finite = np.isfinite(rows).reshape(len(rows), -1).all(axis=1)
    row, count = int(np.argmin(finite)), int((~finite).sum())
    raise UserError(
        f"{what} of record {record_name(row)} are not finite ({count} of {len(rows)} "
        "records), so nothing can be measured. Look at the losses and weights of the "
        "network, and at compute.dtype."
    )


def check_arrays(source: Source, names: Sequence[str]) -> None:
    """Raise a UserError unless the records of a data set have all of these arrays."""
    for name in names:
        if name not in source.spec:
            raise UserError(
                f"this evaluation needs the array {name!r}; the records of "
                f"{source.name} hold {', '.join(source.spec)}. Leave the evaluation "
                "out, or give it another data set."
            )


def over_views(predict_fn: Callable[..., Any], prepare: Prepare) -> Callable[..., Any]:
    """Return ``forward(state, batch)``, which predicts from each view of each record.

    Args:
      predict_fn: from a state and inputs (n, ...) to a pytree of arrays (n, ...).
      prepare: from a batch to inputs (b, v, ...).

    Returns:
      A function to a pytree of arrays (b, v, ...).
    """

    def forward(state: TrainState, batch: Batch) -> Any:
        inputs = prepare(batch)
        views = jax.tree.leaves(inputs)[0].shape[:2]  # b v
        rows = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), inputs)  # (b v) ...
        outputs = predict_fn(state, rows)
        return jax.tree.map(lambda x: x.reshape(*views, *x.shape[1:]), outputs)

    return forward


def _place(batch: Batch, state: TrainState) -> Batch:
    """Put a batch on the devices of the state's parameters."""
    leaf = jax.tree.leaves(state.params)[0]
    return jax.device_put(dict(batch), getattr(leaf, "sharding", None))


def _append(
    columns: dict[str, list[np.ndarray]],
    arrays: Mapping[str, Any],
    mask: np.ndarray,
    limits: Mapping[str, int],
) -> None:
    """Fetch the rows that count, up to the limit of each array."""
    for name, rows in arrays.items():
        parts = columns.setdefault(name, [])
        room = limits[name] - sum(map(len, parts)) if name in limits else len(rows)
        if room > 0:
            parts.append(jax.device_get(rows)[mask][:room])


def _joined(columns: Mapping[str, list[np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.concatenate(parts) for name, parts in columns.items()}
