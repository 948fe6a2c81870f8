"""Run the evaluations of the run's config on its newest good checkpoint.

The untrained network of the same seed is evaluated, too. Results: DIR/evals/NAME.json
and NAME.npz. --config.eval.KEY changes how they are done, as
--config.eval.test.views=ten does; the results say so. An evaluation that the data do
not allow is named with the reason; the others are run, and the exit code is 2. Data
that are elsewhere now are named by --config.data.data_dir=DIR; they must be those of
the training.
"""

from pathlib import Path

from absl import flags

from jaxssl import text
from jaxssl.checkpoint import disk_errors
from jaxssl.checkpoint import store as checkpoints
from jaxssl.cli.verb import WORKDIR, Flag, Verb, get, require, say
from jaxssl.config import checks
from jaxssl.distributed import mesh as meshes
from jaxssl.errors import DriftError, UserError
from jaxssl.evals.checked import CheckedEval
from jaxssl.run import compatibility, config_file, evaluation
from jaxssl.run import workdir as workdirs
from jaxssl.train import state_init
from jaxssl.train.process_settings import keep_freed_memory, use_compilation_cache
from jaxssl.train.setup import Setup, set_up
from jaxssl.types import TrainState

EVAL = "--config.eval."

FLAGS = (
    WORKDIR,
    Flag("evals", list, [], "which ones; all by default"),
    Flag("random_init", bool, True, "evaluate the untrained network as well"),
    Flag("config", str, None, "where the config file is now, if it moved"),
    Flag("other_data", bool, False, "go on with data that changed; the results say so"),
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
    for line in setup.left_out():
        say(line)
    for evaluate in evals.values():
        if isinstance(evaluate, CheckedEval):
            evaluate.check()
    changed = [word for word in rest if word.startswith(EVAL)]
    changed += _check_data(workdir, setup, refuse=not get(values, "other_data"))
    folder = workdir / evaluation.FOLDER
    with disk_errors.watch(workdir):
        state = _restore(setup, workdir)
        say(f"step {int(state.step)} of {setup.train.num_steps}")
        trained = evaluation.run(evals, state, folder, say, changed=changed)
        missing = {*evals} - {*trained}
        untrained = {}
        if get(values, "random_init"):
            say("untrained")
            state = _make_untrained(setup)
            beside = folder / evaluation.RANDOM_INIT
            untrained = evaluation.run(evals, state, beside, say, changed=changed)
            missing |= {*evals} - {*untrained}
    print(f"\n{evaluation.make_table(trained, untrained)}\n")
    say(f"results are in {folder}; next: jaxssl report --workdir={workdir}")
    if missing:
        raise UserError(
            f"not measured: {', '.join(sorted(missing))}; the lines above say why."
        )
    return 0


def _choose(
    workdir: Path, moved: str | None, overrides: list[str]
) -> config_file.Recipe:
    """Read the run's recipe; settings of its evaluations may differ from training."""
    chosen = workdirs.read(workdir)
    if moved:
        chosen = chosen._replace(file=Path(moved).absolute())
    places, evals = [], []
    for override in overrides:
        name = override.removeprefix("--config.").partition("=")[0]
        if compatibility.is_place(name):
            places.append(override)
        elif override.startswith(EVAL):
            evals.append(override)
        else:
            raise UserError(
                f"{override!r} is not expected; evaluate takes "
                "--config.eval.KEY=VALUE, and --config.data.data_dir=DIR if the data "
                "moved; all else is as the run was trained."
            )
    if places:
        chosen = _override(chosen, places)
    return _override(_fill_in(chosen), evals) if evals else chosen


def _override(chosen: config_file.Recipe, overrides: list[str]) -> config_file.Recipe:
    config = config_file.override(chosen.config, overrides)
    return chosen._replace(config=config_file.from_plain(config_file.to_plain(config)))


def _check_data(workdir: Path, setup: Setup, *, refuse: bool) -> list[str]:
    """Compare the data with those of the training; return what differs.

    Raises:
      DriftError: the data differ, and this is to be refused.
    """
    fingerprint = setup.experiment.train_set.fingerprint
    known = workdirs.Known(True, fingerprint, others=setup.fingerprints())
    changes = workdirs.check_data(workdir, known)
    if changes.refused and refuse:
        raise DriftError(
            f"{workdir} holds a run on other data: {text.shorten(changes.refused)}. "
            "Bring the old files back, or give --other_data."
        )
    for line in [*changes.refused, *changes.allowed]:
        say(f"the data of the training: {line}")
    return changes.refused


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
        say(f"CHECKPOINT {damaged} IS DAMAGED: {reason}. Using step {step}.")
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
