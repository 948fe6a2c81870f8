"""The training loop: one compiled step, repeated; `hooks` has what comes in between."""

import contextlib
import functools
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from jaxssl import errors, text
from jaxssl.checkpoint import disk_errors, manifest
from jaxssl.checkpoint import init_from as init_from_lib
from jaxssl.checkpoint import store as checkpoints
from jaxssl.data import labelled, pipeline
from jaxssl.data.source import Source
from jaxssl.distributed import coordination, partition, peers, preemption, watchdog
from jaxssl.distributed import mesh as meshes
from jaxssl.run import lock as locks
from jaxssl.run import metrics, process_log
from jaxssl.run import workdir as workdirs
from jaxssl.run.config_file import Recipe
from jaxssl.train import fits, hooks, state_init
from jaxssl.train.config import TrainConfig
from jaxssl.train.metric_sums import MetricSums, from_plain, renew
from jaxssl.train.step import Program, make_program
from jaxssl.types import Eval, Task, TrainState


def train(
    task: Task,
    source: Source,
    config: TrainConfig,
    *,
    seed: int,
    workdir: Path,
    evals: Mapping[str, Eval] | None = None,
    init_from: Mapping[str, str] | None = None,
    heads: Mapping[str, Sequence[str]] | None = None,
    layout: meshes.MeshConfig | None = None,
    recipe: Recipe | None = None,
    defaults: Mapping[str, Any] = {},
    other_data: Mapping[str, str] = {},
    command: Sequence[str] = (),
    batches: pipeline.Pipeline = pipeline.batches,
    stream: metrics.Stream | None = None,
    hang_seconds: int = coordination.Limits().hang,
) -> TrainState:
    """Train ``task`` on ``source``, or go on where ``workdir`` stopped.

    Args:
      task: the method.
      source: the training set.
      config: the section ``train``.
      seed: decides the first state, the order of the data and all that a step draws.
      workdir: the run's folder; made if it is missing.
      evals: cheap evaluations; their metrics are logged as ``name/metric``.
      init_from: player to the workdir of a run that gives its first arrays.
      heads: player to the layers of its network that may differ in that run.
      layout: the section ``mesh``; by default every device holds the whole state.
      recipe: the config; written to the workdir, and compared with the one there.
      defaults: of the recipe's settings by their path, for settings that the stored
        recipe lacks.
      other_data: fingerprints of the data sets of evaluations, by name; compared with
        those of the last start, as that of ``source`` is.
      command: the words that started the run; written to the workdir.
      batches: the input pipeline.
      stream: takes lines for a person; standard output by default.
      hang_seconds: a step without progress for this long, or for 20 times the median
        step if that is more, ends the process with code 5.

    Returns:
      The state after ``config.num_steps`` steps.

    Raises:
      UserError: settings or workdir do not fit.
      DriftError: the workdir's run has another config, other data or other shapes.
      NoValidCheckpointError: there are checkpoints and all are damaged.
      NonFiniteError: three steps in a row had a loss or an update that is not finite.
      StorageError: the disk is full, or cannot be written.
      PreemptedError: SIGTERM or SIGINT came; the state is saved.
      PeerLostError: of several processes another one is gone.
    """
    # --- Check what fits, before anything is written
    mesh = meshes.make_mesh(layout or meshes.MeshConfig())
    meshes.check_batch(config.batch_size, mesh)
    data = source.fingerprint, defaults, other_data
    known = workdirs.Known(checkpoints.exists(workdir), *data)
    workdirs.check_all(workdir, recipe, known)
    if not known.has_checkpoint:
        coordination.decide("given", lambda: init_from_lib.check(init_from or {}))
    fits.check_workers(config.num_workers)
    # The pipeline refuses a batch that is larger than the data set.
    batches(source, batch_size=config.batch_size, seed=seed).close()
    unlabelled = labelled.describe_unlabelled(source)

    # --- Shapes and shardings, then the traced step
    spec = state_init.make_spec(
        source, batch_size=config.batch_size, max_bad_records=config.max_bad_records
    )
    abstract = state_init.make_abstract(task, spec, mesh, layout)
    program = make_program(task, abstract, spec, mesh)
    key = meshes.replicate(state_init.make_keys(seed)[1], mesh)

    with contextlib.ExitStack() as stack:
        # --- Guards: errors of the disk and of other processes, lock, watchdog, signals
        stack.enter_context(disk_errors.watch(workdir))
        stack.enter_context(peers.guard())
        coordination.decide("lock", lambda: stack.enter_context(locks.hold(workdir)))
        locks.check_shared(workdir)
        dog = stack.enter_context(watchdog.watch(workdir, hang_seconds))
        out = stack.enter_context(process_log.open_log(workdir, stream or sys.stdout))
        say = functools.partial(metrics.tell, out)
        received = stack.enter_context(preemption.watch())

        # --- The first state, by priority:
        #   1. the newest good checkpoint of this workdir;
        #   2. players of other runs, where `init_from` names them;
        #   3. fresh values.
        state = checkpoints.restore_newest(workdir, abstract, say)
        restored = state is not None
        if state is None:
            state = state_init.init(task, spec, abstract, seed=seed)
            state = state_init.graft_players(state, init_from or {}, heads or {}, say)
        del abstract
        first = int(state.step)
        if first >= config.num_steps:
            say(f"{workdir} is finished: step {first} of {config.num_steps}.")
            return state

        # --- The workdir: config and launch, checkpoints, metrics
        for line in _write_launch(workdir, recipe, known, command, anew=not restored):
            say(line)
        store = stack.enter_context(
            checkpoints.open_store(workdir, keep=config.keep_checkpoints)
        )
        stack.callback(dog.note, "waiting for the save in flight", long=True)
        writer = stack.enter_context(
            metrics.open_writer(
                workdir,
                first_step=first if restored else -1,
                total=config.num_steps,
                stream=out,
            )
        )
        _introduce(source, state, mesh, config, say)
        if unlabelled:
            say(f"{unlabelled}; they are used where no label is needed")
        say(f"{'going on after' if restored else 'starting at'} step {first}")

        # --- The compiled step and the input
        step_fn = _compile(program, say)
        rows = stack.enter_context(
            contextlib.closing(
                open_rows(batches, source, config, mesh, seed=seed, start_step=first)
            )
        )
        replay = functools.partial(_replay, rows, seed)
        run = hooks.Run(
            *(config, workdir, evals or {}, writer, store, dog, replay),
            *(len(checkpoints.set_aside(workdir)), first),
            began=time.monotonic(),
        )
        dog.note("reading the first batch")
        batch = meshes.to_devices(next(rows), mesh)
        if not restored:
            hooks.evaluate(run, state, first)
        meter = previous_meter = _begin_meter(workdir, first, program.empty, say)
        pace = metrics.Pace()

        # --- The steps
        for step in range(first + 1, config.num_steps + 1):
            last = step == config.num_steps
            # 1. Dispatch the step; the host does not wait for its result.
            started = time.monotonic()
            dog.note("computing it", step=step)
            with jax.transfer_guard("disallow"):
                state, meter = step_fn(state, meter, batch, key)
            # 2. Read the next batch while the devices compute.
            dispatched = time.monotonic()
            if not last:
                dog.note("reading the batch of the next one")
                batch = meshes.to_devices(next(rows), mesh)
            waited = time.monotonic() - dispatched
            # 3. Wait for the step before: the host is at most one step ahead.
            dog.note("waiting for the devices")
            jax.block_until_ready(previous_meter)
            previous_meter = meter
            pace = pace.add(seconds=time.monotonic() - started, waited=waited)
            metrics.advance(writer)
            # 4. Log, evaluate, save; then stop if a signal came.
            if step % config.log_every == 0 or last:
                hooks.log(run, step, meter, pace, num_bad=len(rows.bad_records))
                meter, pace = renew(program.empty, meter), metrics.Pace()
            if step % config.eval_every == 0 or last:
                hooks.evaluate(run, state, step)
            stopped = received()
            if step % config.save_every == 0 or last or stopped:
                hooks.save(run, state, meter)
            if stopped and not last:
                checkpoints.finish(store)
                raise errors.PreemptedError(step, stopped)
    return state


def _write_launch(
    workdir: Path,
    recipe: Recipe | None,
    known: workdirs.Known,
    command: Sequence[str],
    *,
    anew: bool,
) -> list[str]:
    """Write what is trained, on process 0; return lines for a person.

    Files that cannot be used are set aside before.
    """

    def write() -> list[str]:
        lines = workdirs.set_unusable_aside(workdir, anew=anew)
        if recipe is not None:
            now = known._replace(has_checkpoint=checkpoints.exists(workdir))
            changes = workdirs.write(workdir, recipe, now, command)
            lines += [f"changed since the last start: {change}" for change in changes]
        return lines

    return coordination.decide("config", write)


def _introduce(
    source: Source, state: TrainState, mesh: Mesh, config: TrainConfig, say: text.Say
) -> None:
    """Say the data set, the devices, and the number of parameters of each player."""
    players = ", ".join(
        f"{player} {sum(leaf.size for leaf in jax.tree.leaves(params)):,}"
        for player, params in state.params.items()
    )
    kind = mesh.devices.flat[0].device_kind
    say(
        f"{source.name}: {len(source):,} records, batches of {config.batch_size} on "
        f"{mesh.size} x {kind}; parameters: {players}"
    )
    if mesh.size > 1:
        say(partition.describe(state, mesh))


def _compile(program: Program, say: text.Say) -> Callable[..., Any]:
    say("compiling")
    began = time.monotonic()
    step_fn = program.compile()
    say(f"compiled in {text.format_seconds(time.monotonic() - began)}")
    return step_fn


def _begin_meter(
    workdir: Path, step: int, empty: MetricSums, say: text.Say
) -> MetricSums:
    """Return the meter of a checkpoint, so that the next record misses no step."""
    folder = workdir / checkpoints.FOLDER / str(step)
    kept = manifest.read_meter(folder) if folder.exists() else None
    if kept is None:  # The run begins, or another program wrote the checkpoint.
        return empty
    meter = from_plain(kept, empty)
    if meter is None:
        say(f"other metrics than up to step {step}; the next record begins after it")
    return empty if meter is None else meter


def open_rows(
    batches: pipeline.Pipeline,
    source: Source,
    config: TrainConfig,
    mesh: Mesh,
    *,
    seed: int,
    start_step: int = 0,
) -> pipeline.Batches:
    """Open the input at a step; each process gets its own rows of every batch.

    Args:
      batches: the input pipeline.
      source: the training set.
      config: the section ``train``.
      mesh: decides which rows this process reads.
      seed: of the run.
      start_step: the number of finished steps.
    """
    index, count = meshes.share(mesh)
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


def _replay(
    rows: pipeline.Batches, seed: int, step: int, count: int
) -> list[dict[str, Any]]:
    """Return the random key and the record ids of ``count`` steps from ``step`` on.

    The ids are those of the global batch. No record is read again, because a run that
    ends may have reached its limit of unreadable records.
    """
    inputs, root_key = [], state_init.make_keys(seed)[1]
    for number in range(step - 1, step - 1 + count):
        key = jax.random.key_data(jax.random.fold_in(root_key, number)).tolist()
        ids = rows.ids(number).tolist()
        inputs.append({"step": number + 1, "key": key, "ids": ids})
    return inputs
