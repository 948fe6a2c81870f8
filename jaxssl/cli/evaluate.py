"""Run the evaluations of the run's config on its newest good checkpoint.

The untrained network of the same seed is evaluated, too. Results: DIR/evals/NAME.json
and NAME.npz. --config.eval.KEY changes how they are done, as
--config.eval.test.views=ten does; the results say so.
"""

from pathlib import Path

from absl import flags

from jaxssl.checkpoint import disk_errors
from jaxssl.checkpoint import store as checkpoints
from jaxssl.cli.verb import WORKDIR, Flag, Verb, get, require
from jaxssl.config import checks
from jaxssl.distributed import mesh as meshes
from jaxssl.errors import UserError
from jaxssl.evals.checked import CheckedEval
from jaxssl.run import config_file, evaluation
from jaxssl.run import workdir as workdirs
from jaxssl.train import state_init
from jaxssl.train.process_settings import keep_freed_memory, use_compilation_cache
from jaxssl.train.setup import Setup, set_up
from jaxssl.types import TrainState

FLAGS = (
    WORKDIR,
    Flag("evals", list, [], "which ones; all by default"),
    Flag("random_init", bool, True, "evaluate the untrained network as well"),
    Flag("config", str, None, "where the config file is now, if it moved"),
)


def _evaluate(values: flags.FlagValues, rest: list[str]) -> int:
    workdir = Path(require(values, "workdir", "runs/NAME"))
    use_compilation_cache()
    keep_freed_memory()
    chosen = _choose(workdir, get(values, "config"), rest)
    setup = set_up(chosen)
    available = setup.experiment.evals
    for name in get(values, "evals"):
        checks.choice("--evals", name, available)
    evals = {n: available[n] for n in get(values, "evals") or available}
    for evaluate in evals.values():
        if isinstance(evaluate, CheckedEval):
            evaluate.check()
    folder = workdir / evaluation.FOLDER
    with disk_errors.watch(workdir):
        state = _restore(setup, workdir)
        print(f"step {int(state.step)} of {setup.train.num_steps}")
        trained = evaluation.run(evals, state, folder, print, changed=rest)
        untrained = {}
        if get(values, "random_init"):
            print("untrained")
            state = _make_untrained(setup)
            beside = folder / evaluation.RANDOM_INIT
            untrained = evaluation.run(evals, state, beside, print, changed=rest)
    print(f"\n{evaluation.make_table(trained, untrained)}\n")
    print(f"results are in {folder}; next: jaxssl report --workdir={workdir}")
    return 0


def _choose(
    workdir: Path, moved: str | None, overrides: list[str]
) -> config_file.Recipe:
    """Read the run's recipe; settings of its evaluations may differ from training."""
    chosen = workdirs.read(workdir)
    if moved:
        chosen = chosen._replace(file=Path(moved).absolute())
    for override in overrides:
        if not override.startswith("--config.eval."):
            raise UserError(
                f"{override!r} is not expected; evaluate takes "
                "--config.eval.KEY=VALUE, all else is as the run was trained."
            )
    if not overrides:
        return chosen
    config = config_file.override(_fill_in(chosen).config, overrides)
    return chosen._replace(config=config_file.from_plain(config_file.to_plain(config)))


def _fill_in(chosen: config_file.Recipe) -> config_file.Recipe:
    """Give settings of evaluations that the stored config lacks their defaults."""
    values = config_file.to_plain(chosen.config)
    for path, default in set_up(chosen).defaults.items():
        *sections, name = path.split(".")
        if sections[0] == "eval":
            settings = values
            for section in sections:
                settings = settings.setdefault(section, {})
            settings.setdefault(name, config_file.to_plain(default))
    return chosen._replace(config=config_file.from_plain(values))


def _restore(setup: Setup, workdir: Path) -> TrainState:
    """Restore the newest good checkpoint on one device; nothing on disk changes."""
    step, damage = checkpoints.find_newest(workdir)
    if step is None:
        raise UserError(f"--workdir: {workdir} has no checkpoint yet; train it first.")
    for damaged, reason in damage.items():
        print(f"CHECKPOINT {damaged} IS DAMAGED: {reason}. Using step {step}.")
    mesh = meshes.make_mesh(meshes.MeshConfig(data=1))
    abstract = state_init.make_abstract(setup.experiment.task, setup.spec(), mesh)
    return checkpoints.restore(workdir, step, abstract)


def _make_untrained(setup: Setup) -> TrainState:
    return state_init.make_untrained(
        setup.experiment.task,
        setup.experiment.train_set,
        setup.spec(),
        meshes.make_mesh(meshes.MeshConfig(data=1)),
        batches=setup.batches,
        seed=setup.seed,
    )


VERB = Verb(
    _evaluate,
    FLAGS,
    "evaluate --workdir=DIR [--evals=a,b] [--norandom_init] [--config.eval.K=V]",
    __doc__,
)
