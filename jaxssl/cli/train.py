"""``jaxssl train``."""

from collections.abc import Callable
from pathlib import Path

from absl import flags

from jaxssl.cli.setup import keep_freed_memory, set_up, use_compilation_cache
from jaxssl.cli.verb import Verb, define_workdir, require
from jaxssl.train import loop, recipe, records, sharding
from jaxssl.train.start import Pipeline


def _define_train(values: flags.FlagValues) -> None:
    define_workdir(values)
    flags.DEFINE_string(
        "config", None, "config file, FILE.py or FILE.py:variant", flag_values=values
    )


def run(
    values: flags.FlagValues,
    rest: list[str],
    *,
    around: Callable[[Pipeline], Pipeline] = lambda batches: batches,
) -> int:
    """Train.

    Args:
      values: the flags.
      rest: overrides.
      around: goes around the input pipeline.

    Returns:
      The exit code.
    """
    spec = require(values, "config", "configs/NAME.py")
    workdir = Path(require(values, "workdir", "runs/NAME"))
    chosen = recipe.load(spec, rest)
    records.check(workdir, chosen)
    use_compilation_cache()
    keep_freed_memory()
    setup = set_up(chosen)
    mesh = sharding.make_mesh(setup.mesh)
    parts = setup.experiment.minibatches
    if note := sharding.warn_minibatches(setup.train.batch_size, parts, mesh):
        print(note)
    loop.train(
        setup.experiment.task,
        setup.experiment.train_set,
        setup.train,
        seed=setup.seed,
        workdir=workdir,
        evals=setup.experiment.online_evals,
        init_from=setup.experiment.init_from,
        mesh=mesh,
        layout=setup.mesh,
        recipe=chosen,
        command=[
            "jaxssl",
            "train",
            f"--config={spec}",
            f"--workdir={workdir}",
            *rest,
        ],
        batches=around(setup.batches),
    )
    print(f"finished; next: jaxssl evaluate --workdir={workdir}")
    return 0


VERB = Verb(
    run,
    _define_train,
    "train --config=FILE[:variant] --workdir=DIR [--config.KEY=VALUE ...]",
    """\
Train the experiment of a config file and keep everything about it in DIR.
The same command again goes on from the newest good checkpoint, bit for bit.
SIGTERM or Ctrl-C saves and exits with code 75; a second one exits at once.
`jaxssl train --config=FILE --help` lists the settings of FILE.
""",
)
