"""What a run does between two steps: log, evaluate, save."""

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax

from jaxssl import atomic_write, text
from jaxssl.checkpoint import disk_errors
from jaxssl.checkpoint import store as checkpoints
from jaxssl.distributed import coordination, peers
from jaxssl.distributed import mesh as meshes
from jaxssl.distributed.watchdog import LONG_SECONDS, Watchdog
from jaxssl.errors import NonFiniteError, UserError
from jaxssl.run import metrics
from jaxssl.train.config import TrainConfig
from jaxssl.train.metric_sums import MAX_SKIPS, UPDATE, MetricSums, to_plain
from jaxssl.train.step import is_finite
from jaxssl.types import Eval, TrainState


class Run(NamedTuple):
    """What stays the same from the first step of a start to the last.

    Attributes:
      config: the section ``train``.
      workdir: the run's folder.
      evals: online evaluations by name.
      writer: takes the metrics.
      store: takes the checkpoints.
      dog: the watchdog, which learns from the hooks what the run does.
      replay: ``replay(step, count)`` returns the random key and the record ids of each
        of ``count`` steps from ``step`` on.
      damaged: number of damaged checkpoints that are set aside in the folder.
      first: number of steps that were finished before this start.
      began: ``time.monotonic()`` before the first step of this start.
    """

    config: TrainConfig
    workdir: Path
    evals: Mapping[str, Eval]
    writer: metrics.Writer
    store: checkpoints.Store
    dog: Watchdog
    replay: Callable[[int, int], list[dict[str, Any]]]
    damaged: int
    first: int
    began: float


def log(
    run: Run, step: int, meter: MetricSums, pace: metrics.Pace, *, num_bad: int
) -> None:
    """Write the means of the interval that ends at ``step``.

    Args:
      run: the run.
      step: the number of finished steps.
      meter: sums of the metrics of the interval, on the devices.
      pace: the speed of the interval.
      num_bad: number of records that this process could not read since the start.

    Raises:
      NonFiniteError: too many steps in a row made no update.
    """
    started = time.monotonic()
    fetched = _check(run, meter)
    pace = pace.extend(time.monotonic() - started)
    skipped, count = int(fetched.skipped), int(fetched.count)
    means = {n: float(total) / count for n, total in fetched.sums.items() if count}
    elapsed = time.monotonic() - run.began
    scalars = {
        **means,
        "data/bad_records": float(peers.add_up("bad_records", num_bad)),
        "data/damaged_checkpoints": float(run.damaged),
        "data/skipped_steps": float(skipped),
        **pace.scalars(run.config.batch_size),
        "speed/elapsed_seconds": elapsed,
    }
    metrics.write(run.writer, step, scalars)
    if skipped:
        metrics.say(
            run.writer,
            f"STEP {step}: {skipped} of the last {skipped + count} steps made no "
            f"update; not finite: {_causes(fetched)}.",
        )
    left = elapsed / (step - run.first) * (run.config.num_steps - step)
    metrics.show(run.writer, step, scalars, left)


def evaluate(run: Run, state: TrainState, step: int) -> None:
    """Run the online evaluations; log their values, and note their units once.

    Every process runs them on its own copy, so that none waits for another. One that
    the data or the network do not allow is named with the reason; training goes on.
    """
    for name, evaluation in run.evals.items():
        run.dog.note(f"evaluating {name}", long=True)
        started = time.monotonic()
        try:
            result = evaluation(meshes.local(state))
        except UserError as error:
            metrics.say(
                run.writer, f"eval at step {step}: {name} NOT MEASURED: {error}"
            )
            continue
        if not result.metrics:
            continue
        named = {f"{name}/{key}": metric for key, metric in result.metrics.items()}
        metrics.write_units(run.workdir, named)
        metrics.write(run.writer, step, {key: x.value for key, x in named.items()})
        seconds = text.format_seconds(time.monotonic() - started)
        shown = metrics.format_metrics(named)
        metrics.say(run.writer, f"eval at step {step}: {shown}  ({seconds})")


def save(run: Run, state: TrainState, meter: MetricSums) -> None:
    """Save the state after checking that it is finite.

    Raises:
      NonFiniteError: the state is not finite, or too many steps in a row made no
        update.
    """
    run.dog.note("saving", long=True)
    step = int(state.step)
    fetched = _check(run, meter)
    if not is_finite(state):
        _write_replay(run, step, 1, [UPDATE])
        raise NonFiniteError(
            step, f"the state is not finite at step {step}. {_kept(run)}"
        )
    # Another process may still evaluate for an hour, but Orbax waits five minutes. This
    # wait is not noted as long: if no other process does something long, one hangs.
    checkpoints.settle(run.store)
    run.dog.note("waiting for the others to save")
    coordination.meet("save", LONG_SECONDS)
    run.dog.note("saving", long=True)
    checkpoints.save(run.store, state, to_plain(fetched))


def _check(run: Run, meter: MetricSums) -> MetricSums:
    """Fetch the meter; raise if too many steps in a row made no update."""
    fetched = jax.device_get(meter)
    if fetched.stop_step >= 0:
        first = int(fetched.stop_step) - MAX_SKIPS + 1
        causes = [name for name, count in fetched.causes.items() if count]
        _write_replay(run, first, MAX_SKIPS, causes)
        raise NonFiniteError(
            first,
            f"steps {first} to {fetched.stop_step} made no update; not finite: "
            f"{_causes(fetched)}. {_kept(run)}",
        )
    return fetched


def _write_replay(run: Run, step: int, count: int, causes: list[str]) -> None:
    """Write the record ids and the random keys of the bad steps to the workdir."""
    if coordination.is_first():
        record = {"causes": causes, "steps": run.replay(step, count)}
        path = run.workdir / f"nonfinite-{step}.json"
        atomic_write.write(path, (json.dumps(record) + "\n").encode())


def _causes(meter: MetricSums) -> str:
    return ", ".join(f"{name} ({n} x)" for name, n in meter.causes.items() if n)


def _kept(run: Run) -> str:
    run.dog.note("waiting for the save in flight", long=True)
    checkpoints.settle(run.store)
    return f"{disk_errors.kept_text(run.workdir)}; try a smaller learning rate."
