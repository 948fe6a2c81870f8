"""``jaxssl verify``."""

from pathlib import Path

from absl import flags

from jaxssl import settings
from jaxssl.cli import verify_resume
from jaxssl.cli.verb import (
    Verb,
    define_workdir,
    get,
    is_override,
    refuse_words,
    require,
)


def _define_verify(values: flags.FlagValues) -> None:
    define_workdir(values)
    flags.DEFINE_string(
        "config", None, "config file, FILE.py or FILE.py:variant", flag_values=values
    )
    flags.DEFINE_integer(
        "steps",
        None,
        "train so many steps instead of the config's",
        lower_bound=1,
        flag_values=values,
    )
    flags.DEFINE_integer(
        "kills", 3, "resume: how many", lower_bound=1, flag_values=values
    )
    flags.DEFINE_integer("seed", 0, "resume: decides where", flag_values=values)


def _verify(values: flags.FlagValues, rest: list[str]) -> int:
    what = [word for word in rest if not is_override(word)]
    settings.choice("the word after verify", what[0] if what else "", ("resume",))
    refuse_words(what[1:])
    spec = require(values, "config", "configs/NAME.py")
    words = [word for word in rest if is_override(word)]
    if steps := get(values, "steps"):
        words = [*verify_resume.shortened(steps), *words]
    workdir = get(values, "workdir")
    return verify_resume.verify(
        spec,
        words,
        kills=get(values, "kills"),
        seed=get(values, "seed"),
        folder=Path(workdir) if workdir else None,
    )


VERB = Verb(
    _verify,
    _define_verify,
    "verify resume --config=FILE[:variant] [--steps=N] [--kills=3]",
    """\
resume   train the config twice, undisturbed, and killed (signal 9) at random steps and
         inside of saves; compare every leaf of the states, the data position, each
         batch and the metrics bit for bit. Exit code 8 if something differs.

The runs are the config's own, as long as it says. --steps=N makes them shorter: it sets
train.num_steps, save_every, log_every and eval_every, so schedules that end with
num_steps are passed through faster. --workdir keeps both runs; it must be new.
""",
)
