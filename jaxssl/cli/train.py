"""``jaxssl train``."""

from collections.abc import Callable
from pathlib import Path

from absl import flags

from jaxssl.checkpoint import store as checkpoints
from jaxssl.cli.verb import Verb, define_config, define_workdir, get, given, require
from jaxssl.data.pipeline import Pipeline
from jaxssl.distributed import address, coordination
from jaxssl.distributed import mesh as meshes
from jaxssl.errors import UserError
from jaxssl.run import config_file
from jaxssl.run import workdir as workdirs
from jaxssl.train import loop
from jaxssl.train.process_settings import keep_freed_memory, use_compilation_cache
from jaxssl.train.setup import set_up


def _define_train(values: flags.FlagValues) -> None:
    define_workdir(values)
    define_config(values)
    flags.DEFINE_string(
        "coordinator", None, "HOST:PORT of process 0", flag_values=values
    )
    for name, meaning in (
        ("num_processes", "number of processes that train together"),
        ("process_id", "number of this process, from 0"),
    ):
        flags.DEFINE_integer(name, None, meaning, flag_values=values)
    flags.DEFINE_bool(
        "distributed",
        False,
        "find the other processes through TPU, Slurm, MPI or Kubernetes",
        flag_values=values,
    )
    limits = coordination.Limits()
    for name, seconds, meaning in (
        ("join_seconds", limits.join, "how long to wait until all processes are there"),
        ("peer_seconds", limits.peer, "silence after which a process counts as dead"),
        ("hang_seconds", limits.hang, "limit of a step, or 20 times the median step"),
    ):
        flags.DEFINE_integer(name, seconds, meaning, lower_bound=1, flag_values=values)


def _join(values: flags.FlagValues) -> None:
    """Connect to the other processes, if the flags ask for several.

    Raises:
      UserError: flags are missing, contradict each other, or are impossible.
    """
    names = ("coordinator", "num_processes", "process_id")
    place = address.ProcessAddress(*(get(values, name) for name in names))
    missing = [f"--{n}" for n, value in place._asdict().items() if value is None]
    automatic = get(values, "distributed")
    if len(missing) == len(names) and not automatic:
        return
    if not automatic:
        if missing:
            raise UserError(
                f"{' and '.join(missing)} missing; give --coordinator, "
                "--num_processes and --process_id together."
            )
        address.check(place)
    elif len(missing) < len(names):
        raise UserError(
            "--distributed finds the other processes by itself; leave it out, or "
            "--coordinator, --num_processes and --process_id."
        )
    seconds = [get(values, f"{name}_seconds") for name in ("join", "peer")]
    if place.coordinator:
        print(
            f"process {place.process_id} of {place.num_processes}: waiting for the "
            f"others at {place.coordinator}, {seconds[0]} s at most",
            flush=True,
        )
    coordination.join(place, *seconds)


def run(
    values: flags.FlagValues,
    rest: list[str],
    *,
    around: Callable[[Pipeline], Pipeline] = lambda batches: batches,
) -> int:
    """Train the config of the flags.

    Args:
      values: the flags.
      rest: overrides.
      around: returns the input pipeline to use in place of that of the config.

    Returns:
      The exit code.
    """
    spec = require(values, "config", "configs/NAME.py")
    workdir = Path(require(values, "workdir", "runs/NAME"))
    recipe = config_file.load(spec, rest)
    keep_freed_memory()
    _join(values)
    has_checkpoint = checkpoints.exists(workdir)
    coordination.decide(
        "early",
        lambda: workdirs.check(workdir, recipe, has_checkpoint=has_checkpoint),
    )
    use_compilation_cache()
    setup = coordination.each("set-up", lambda: set_up(recipe))
    mesh = meshes.make_mesh(setup.mesh)
    parts = setup.experiment.minibatches
    if note := meshes.describe_uneven_minibatches(setup.train.batch_size, parts, mesh):
        print(note)
    loop.train(
        setup.experiment.task,
        setup.experiment.train_set,
        setup.train,
        seed=setup.seed,
        workdir=workdir,
        evals=setup.experiment.online_evals,
        init_from=setup.experiment.init_from,
        heads=setup.experiment.heads,
        layout=setup.mesh,
        recipe=recipe,
        defaults=setup.defaults,
        command=["jaxssl", "train", *given(values), *rest],
        batches=around(setup.batches),
        hang_seconds=get(values, "hang_seconds"),
    )
    if coordination.is_first():
        print(f"finished; next: jaxssl evaluate --workdir={workdir}")
    return 0


VERB = Verb(
    run,
    _define_train,
    "train --config=FILE[:variant] --workdir=DIR [--config.KEY=VALUE ...]",
    """\
Train the experiment of a config file, and write everything about it to DIR.
The same command again goes on from the newest good checkpoint, bit for bit.
SIGTERM or Ctrl-C saves and exits with code 75. A second Ctrl-C or SIGTERM exits at
once, but a second SIGTERM within 5 s of the first is taken for the same notice.
`jaxssl train --config=FILE --help` lists the settings of FILE.
""",
)
