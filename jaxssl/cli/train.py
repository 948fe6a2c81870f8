"""Train the experiment of a config file, and write everything about it to DIR.

The same command again goes on from the newest good checkpoint, bit for bit.
SIGTERM or Ctrl-C saves and exits with code 75. A second Ctrl-C or SIGTERM exits at
once, but a second SIGTERM within 5 s of the first is taken for the same notice.
`jaxssl train --config=FILE --help` lists the settings of FILE.
"""

from collections.abc import Callable
from pathlib import Path

from absl import flags

from jaxssl.checkpoint import store as checkpoints
from jaxssl.cli.verb import CONFIG, WORKDIR, Flag, Verb, get, given, require, say
from jaxssl.config import fields
from jaxssl.data.pipeline import Pipeline
from jaxssl.distributed import address, coordination
from jaxssl.distributed import mesh as meshes
from jaxssl.errors import UserError
from jaxssl.run import config_file
from jaxssl.run import workdir as workdirs
from jaxssl.train import loop
from jaxssl.train.process_settings import keep_freed_memory, use_compilation_cache
from jaxssl.train.setup import set_up

_LIMITS = coordination.Limits()

# Longest wait for processes: an int32 holds it in milliseconds, 23 days.
MAX_SECONDS = 2_000_000

# Most processes of a run.
MAX_PROCESSES = 2**16

FLAGS = (
    WORKDIR,
    CONFIG,
    Flag("coordinator", str, None, "HOST:PORT of process 0"),
    Flag(
        "num_processes",
        int,
        None,
        "number of processes that train together",
        (1, MAX_PROCESSES),
    ),
    Flag(
        "process_id",
        int,
        None,
        "number of this process, from 0",
        (0, MAX_PROCESSES - 1),
    ),
    Flag(
        "distributed", bool, False, "find the others by TPU, Slurm, MPI or Kubernetes"
    ),
    Flag(
        "join_seconds",
        int,
        _LIMITS.join,
        "how long to wait for all processes",
        (1, MAX_SECONDS),
    ),
    Flag(
        "peer_seconds",
        int,
        _LIMITS.peer,
        "silence of a process that is dead",
        (1, MAX_SECONDS),
    ),
    Flag(
        "hang_seconds",
        int,
        _LIMITS.hang,
        "limit of a step, or 20 median steps",
        (1, fields.MAX_COUNT),
    ),
)


def _join(values: flags.FlagValues) -> None:
    """Connect to the other processes, if the flags ask for several.

    Raises:
      UserError: flags are missing, contradict each other, or are impossible.
    """
    names = ("coordinator", "num_processes", "process_id")
    member = address.ProcessAddress(*(get(values, name) for name in names))
    missing = [f"--{n}" for n, value in member._asdict().items() if value is None]
    automatic = get(values, "distributed")
    if len(missing) == len(names) and not automatic:
        return
    if not automatic:
        if missing:
            raise UserError(
                f"{' and '.join(missing)} missing; give --coordinator, "
                "--num_processes and --process_id together."
            )
        address.check(member)
    elif len(missing) < len(names):
        raise UserError(
            "--distributed finds the other processes by itself; leave it out, or "
            "--coordinator, --num_processes and --process_id."
        )
    seconds = [get(values, f"{name}_seconds") for name in ("join", "peer")]
    if member.coordinator:
        say(
            f"process {member.process_id} of {member.num_processes}: waiting for the "
            f"others at {member.coordinator}, {seconds[0]} s at most"
        )
    if member.process_id == 0 and address.find_bind_address(member) is None:
        say(
            f"process 0 listens at all addresses of this machine, as "
            f"{member.coordinator} is none of them (docs/pods.md)"
        )
    coordination.join(member, *seconds)


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
    known = workdirs.Known(checkpoints.exists(workdir))
    coordination.decide("early", lambda: workdirs.check(workdir, recipe, known))
    use_compilation_cache()
    setup = coordination.each("set-up", lambda: set_up(recipe))
    mesh = meshes.make_mesh(setup.mesh)
    parts = setup.experiment.minibatches
    if setup.unread and coordination.is_first():
        print(f"this run does not read: {', '.join(setup.unread)}")
    if note := meshes.describe_uneven_minibatches(setup.train.batch_size, parts, mesh):
        say(note)
    if coordination.is_first():
        for line in setup.left_out():
            say(line)
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
        other_data=coordination.each("data", setup.fingerprints),
        command=["jaxssl", "train", *given(values), *rest],
        batches=around(setup.batches),
        hang_seconds=get(values, "hang_seconds"),
    )
    if coordination.is_first():
        say(f"finished; next: jaxssl evaluate --workdir={workdir}")
    return 0


VERB = Verb(
    run,
    FLAGS,
    "train --config=FILE[:variant] --workdir=DIR [--config.KEY=VALUE ...]",
    __doc__,
)
