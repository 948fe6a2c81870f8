"""The training loop: one compiled step, repeated, with everything else at its edges."""

import contextlib
import dataclasses
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh

from jaxssl.data import pipeline
from jaxssl.settings import positive
from jaxssl.train import (
    checkpoint,
    metrics,
    placement,
    preemption,
    records,
    sharding,
    start,
    storage,
)
from jaxssl.train.recipe import Recipe
from jaxssl.train.step import MAX_SKIPS, Meter, is_finite, make_program, renew
from jaxssl.types import Eval, Task, TrainState, UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """The section ``train`` of a config.

    Attributes:
      num_steps: length of the run; schedules depend on it.
      batch_size: rows of a batch over all devices and processes.
      save_every: steps between two checkpoints; the last step is always saved.
      log_every: steps between two records of metrics, which are means over them.
      eval_every: steps between two online evaluations; also before and after all.
      keep_checkpoints: how many newest checkpoints stay on disk, at least 2.
      num_workers: processes that read data; 0 reads in this one.
      max_bad_records: unreadable records that are skipped before the run stops.
    """

    num_steps: int
    batch_size: int
    save_every: int = 1000
    log_every: int = 50
    eval_every: int = 1000
    keep_checkpoints: int = 3
    num_workers: int = 0
    max_bad_records: int = 10

    def __post_init__(self):
        """Check the values."""
        positive(
            self, "num_steps", "batch_size", "save_every", "log_every", "eval_every"
        )
        if self.keep_checkpoints < 2:
            raise UserError(
                f"keep_checkpoints is {self.keep_checkpoints}; it must be at least 2, "
                "so that a good one is left if the newest gets damaged."
            )
        for field in ("num_workers", "max_bad_records"):
            if getattr(self, field) < 0:
                raise UserError(
                    f"{field} is {getattr(self, field)}; it must be 0 or more."
                )


class NonFiniteError(RuntimeError):
    """Losses or updates stay without numbers; no good checkpoint was overwritten.

    Attributes:
      step: the first of the steps that made no update.
    """

    def __init__(self, step: int, message: str):
        super().__init__(message)
        self.step = step


class Run(NamedTuple):
    """What stays the same from the first step to the last.

    Attributes:
      config: how long, how often.
      workdir: the run's folder.
      evals: online evaluations by name.
      writer: metrics go here.
      store: checkpoints go here.
      first: the step that this start began after.
      began: when it began, in seconds.
    """

    config: Config
    workdir: Path
    evals: Mapping[str, Eval]
    writer: metrics.Writer
    store: checkpoint.Store
    first: int
    began: float


def train(
    task: Task,
    source: Any,
    config: Config,
    *,
    seed: int,
    workdir: Path,
    evals: Mapping[str, Eval] | None = None,
    init_from: Mapping[str, str] | None = None,
    mesh: Mesh | None = None,
    layout: sharding.Config | None = None,
    recipe: Recipe | None = None,
    command: Sequence[str] = (),
    batches: start.Pipeline = pipeline.batches,
    stream: metrics.Stream | None = None,
) -> TrainState:
    """Train ``task`` on ``source``, or go on where ``workdir`` stopped.

    Args:
      task: the method.
      source: the training set.
      config: how long, how often.
      seed: of the first state, the order of the data and everything random in a step.
      workdir: the run's folder; made if it is missing.
      evals: cheap evaluations; their scalars are logged as ``name/scalar``.
      init_from: player to the workdir of a run that gives its first arrays.
      mesh: the devices; all of them by default.
      layout: how the state is split over them; each has all of it by default.
      recipe: written to the workdir, and compared with what is there.
      command: the words that started the run, for the record.
      batches: the input pipeline.
      stream: where lines for a person go; standard output by default.

    Returns:
      The state after ``config.num_steps`` steps.

    Raises:
      UserError: settings or workdir do not fit.
      DriftError: the workdir's run has another config, other data or other shapes.
      NoValidCheckpointError: there are checkpoints and all are damaged.
      NonFiniteError: three steps in a row had a loss or an update that is not finite.
      StorageError: the disk is full, or cannot be written.
      PreemptedError: SIGTERM or SIGINT came; the state is saved.
    """
    mesh = mesh or sharding.make_mesh(sharding.Config())
    out = stream or sys.stdout
    sharding.check_batch(config.batch_size, mesh)
    if recipe is not None:
        records.check(workdir, recipe, fingerprint=source.fingerprint)

    # Shapes first: what does not fit is found before anything is written.
    spec = start.make_spec(batches, source, batch_size=config.batch_size, seed=seed)
    abstract = start.make_abstract(task, spec, mesh, layout)
    program = make_program(task, abstract, spec, mesh)
    key = jax.device_put(start.make_keys(seed)[1], sharding.replicated(mesh))

    with contextlib.ExitStack() as stack:
        stack.enter_context(storage.watch(workdir))
        stack.enter_context(records.lock(workdir))
        received = stack.enter_context(preemption.watch())
        say = _make_say(out)

        # What the run goes on from:
        #   1. the newest good checkpoint of this workdir;
        #   2. players of other runs, where `init_from` names them;
        #   3. fresh values.
        state = checkpoint.restore_newest(workdir, abstract, say)
        restored = state is not None
        if state is None:
            state = start.init(task, spec, abstract, seed=seed)
            state = start.graft_players(state, init_from or {}, say)
        del abstract
        first = int(state.step)
        if first >= config.num_steps:
            say(f"{workdir} is finished: step {first} of {config.num_steps}.")
            return state
        if recipe is not None:
            data = source.fingerprint
            for change in records.write(workdir, recipe, command, fingerprint=data):
                say(f"changed since the last start: {change}")

        store = stack.enter_context(
            checkpoint.open_store(workdir, keep=config.keep_checkpoints)
        )
        writer = stack.enter_context(
            metrics.open_writer(
                workdir,
                first_step=first if restored else -1,
                total=config.num_steps,
                stream=out,
            )
        )
        say(_introduce(source, state, mesh, config))
        if mesh.size > 1:
            say(placement.tell(state, mesh))
        began = time.monotonic()
        say(
            f"{'going on after' if restored else 'starting at'} step {first}; compiling"
        )
        step_fn = program.compile()
        say(f"compiled in {metrics.format_seconds(time.monotonic() - began)}")
        run = Run(
            config, workdir, evals or {}, writer, store, first, began=time.monotonic()
        )

        rows = stack.enter_context(
            contextlib.closing(
                _open_rows(batches, source, config, mesh, seed=seed, start_step=first)
            )
        )
        batch = sharding.to_devices(next(rows), mesh)
        if not restored:
            _evaluate(run, state, first)
        meter = behind = program.empty
        pace = metrics.Pace()
        for step in range(first + 1, config.num_steps + 1):
            last = step == config.num_steps
            started = time.monotonic()
            with jax.transfer_guard("disallow"):
                state, meter = step_fn(state, meter, batch, key)
            ready = time.monotonic()
            if not last:
                batch = sharding.to_devices(next(rows), mesh)
            waited = time.monotonic() - ready
            # The host stays one step ahead of the device, never more.
            jax.block_until_ready(behind)
            behind = meter
            pace = pace.add(seconds=time.monotonic() - started, waited=waited)
            metrics.advance(writer)
            if step % config.log_every == 0 or last:
                _log(run, step, meter, pace, num_bad=len(rows.bad_records))
                meter, pace = renew(program.empty, meter), metrics.Pace()
            if step % config.eval_every == 0 or last:
                _evaluate(run, state, step)
            stopped = received()
            if step % config.save_every == 0 or last or stopped:
                _save(run, state, meter)
            if stopped and not last:
                checkpoint.settle(store)
                raise preemption.PreemptedError(step, stopped)
    return state


def _make_say(stream: metrics.Stream) -> checkpoint.Say:
    def say(line: str) -> None:
        stream.write(f"{line}\n")
        stream.flush()

    return say


def _introduce(source: Any, state: TrainState, mesh: Mesh, config: Config) -> str:
    """Say in one line what is about to be trained, on what and where."""
    counts = {
        p: sum(x.size for x in jax.tree.leaves(t)) for p, t in state.params.items()
    }
    players = ", ".join(f"{player} {count:,}" for player, count in counts.items())
    kind = mesh.devices.flat[0].device_kind
    return (
        f"{source.name}: {len(source):,} records, batches of {config.batch_size} on "
        f"{mesh.size} x {kind}; parameters: {players}"
    )


def _open_rows(
    batches: start.Pipeline,
    source: Any,
    config: Config,
    mesh: Mesh,
    *,
    seed: int,
    start_step: int,
) -> pipeline.Batches:
    """Open the input at a step; each process gets its own rows of every batch."""
    index, count = sharding.share(mesh)
    return batches(
        source,
        batch_size=config.batch_size,
        seed=seed,
        start_step=start_step,
        process_index=index,
        process_count=count,
        num_workers=config.num_workers,
        max_bad_records=config.max_bad_records,
    )


def _check(run: Run, meter: Meter) -> Meter:
    """Fetch the meter; raise if too many steps in a row made no update."""
    fetched = jax.device_get(meter)
    if fetched.stop_step >= 0:
        first = int(fetched.stop_step) - MAX_SKIPS + 1
        raise NonFiniteError(
            first,
            f"steps {first} to {fetched.stop_step} made no update; not finite: "
            f"{_causes(fetched)}. {_kept(run)}",
        )
    return fetched


def _causes(meter: Meter) -> str:
    return ", ".join(f"{name} ({n} x)" for name, n in meter.causes.items() if n)


def _kept(run: Run) -> str:
    checkpoint.settle(run.store)
    return f"{checkpoint.kept_text(run.workdir)}; try a smaller learning rate."


def _log(
    run: Run, step: int, meter: Meter, pace: metrics.Pace, *, num_bad: int
) -> None:
    """Write the means of the interval that ends at ``step``."""
    started = time.monotonic()
    fetched = _check(run, meter)
    pace = pace.extend(time.monotonic() - started)
    skipped, count = int(fetched.skipped), int(fetched.count)
    means = {n: float(total) / count for n, total in fetched.sums.items() if count}
    elapsed = time.monotonic() - run.began
    scalars = {
        **means,
        "data/bad_records": float(num_bad),
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


def _evaluate(run: Run, state: TrainState, step: int) -> None:
    """Run the online evaluations and log their scalars."""
    for name, evaluate in run.evals.items():
        started = time.monotonic()
        found = evaluate(sharding.local(state)).scalars
        scalars = {f"{name}/{scalar}": value for scalar, value in found.items()}
        if not scalars:
            continue
        metrics.write(run.writer, step, scalars)
        words = metrics.format_scalars(scalars)
        took = metrics.format_seconds(time.monotonic() - started)
        metrics.say(run.writer, f"eval at step {step}: {words}  ({took})")


def _save(run: Run, state: TrainState, meter: Meter) -> None:
    """Save a state that is known to be finite."""
    step = int(state.step)
    _check(run, meter)
    if not is_finite(state):
        raise NonFiniteError(
            step, f"the state is not finite at step {step}. {_kept(run)}"
        )
    checkpoint.save(run.store, state)
