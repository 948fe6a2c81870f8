"""``jaxssl verify``."""

from pathlib import Path

from absl import flags

from jaxssl.cli.verb import (
    Verb,
    define_workdir,
    get,
    is_override,
    refuse_words,
    require,
)
from jaxssl.config import checks
from jaxssl.verify import devices, resume

STEPS = 3
"""Of ``verify devices``, unless more are asked for."""


def _define_verify(values: flags.FlagValues) -> None:
    define_workdir(values)
    flags.DEFINE_string(
        "config", None, "config file, FILE.py or FILE.py:variant", flag_values=values
    )
    flags.DEFINE_integer(
        "steps",
        None,
        "instead of the config's; devices takes 3",
        lower_bound=1,
        flag_values=values,
    )
    flags.DEFINE_integer(
        "kills", 3, "resume: how many", lower_bound=1, flag_values=values
    )
    flags.DEFINE_integer("seed", 0, "resume: decides where", flag_values=values)
    flags.DEFINE_list(
        "devices", ["1", "2", "4", "8"], "devices: how many", flag_values=values
    )
    flags.DEFINE_list(
        "processes", [], "devices: and on how many processes", flag_values=values
    )


def _verify(values: flags.FlagValues, rest: list[str]) -> int:
    what = [word for word in rest if not is_override(word)]
    checks.choice(
        "the word after verify", what[0] if what else "", ("resume", "devices")
    )
    refuse_words(what[1:])
    spec = require(values, "config", "configs/NAME.py")
    words = [word for word in rest if is_override(word)]
    if what[0] == "devices":
        counts = {
            name: devices.read_counts(get(values, name), name)
            for name in ("devices", "processes")
        }
        return devices.verify(
            spec,
            words,
            devices=counts["devices"],
            processes=counts["processes"],
            steps=get(values, "steps") or STEPS,
        )
    if steps := get(values, "steps"):
        words = [*resume.shortened(steps), *words]
    workdir = get(values, "workdir")
    return resume.verify(
        spec,
        words,
        kills=get(values, "kills"),
        seed=get(values, "seed"),
        folder=Path(workdir) if workdir else None,
    )


VERB = Verb(
    _verify,
    _define_verify,
    "verify resume | devices --config=FILE[:variant] [--steps=N] [flags]",
    """\
resume   train the config twice, undisturbed, and killed (signal 9) at random steps and
         inside of saves; compare every leaf of the states, the data position, each
         batch and the metrics bit for bit. Exit code 8 if something differs.

devices  take each step on one simulated CPU device and, from the same state, on more,
         and with --processes=2,4 on processes that talk to each other; compare loss,
         metrics, gradients, update and statistics up to rounding, with the tolerances
         shown. Exit code 8 if something differs more.

The runs of resume are the config's own, as long as it says. --steps=N makes them
shorter: it sets train.num_steps, save_every, log_every and eval_every, so schedules
that end with num_steps are passed through faster. --workdir keeps both; it must be new.
""",
)
