"""Show that a run depends neither on interruptions nor on its devices.

resume   train the config twice: undisturbed, and killed (signal 9) at random steps and
         inside of saves. Compare every leaf of the states, the data position, each
         batch and the metrics bit for bit. Exit code 8 if something differs.

devices  take each step on one simulated CPU device and, from the same state, on more;
         with --processes=2,4 also on processes that talk to each other. Compare loss,
         metrics, gradients, update, statistics and extra state (averaged weights)
         within the tolerances shown. Exit code 8 if something differs by more.

resume trains for as many steps as the config says. --steps=N makes its runs shorter: it
sets train.num_steps, save_every, log_every and eval_every, and so shortens schedules
that end with num_steps. --workdir keeps both runs; the folder must be new or empty.
"""

from pathlib import Path

from absl import flags

from jaxssl.cli.verb import (
    CONFIG,
    WORKDIR,
    Flag,
    Verb,
    get,
    refuse_unread,
    refuse_words,
    require,
    split_action,
)
from jaxssl.config import fields
from jaxssl.verify import devices, resume

# Steps of ``verify devices`` without --steps. Every step is compared on its own, so a
# few are enough.
STEPS = 3


FLAGS = (
    WORKDIR._replace(actions=("resume",)),
    CONFIG,
    Flag(
        "steps",
        int,
        None,
        "number of steps; default: the config's, 3 for devices",
        (1, fields.MAX_COUNT),
    ),
    Flag("kills", int, 3, "resume: number of kills", (1, 10_000), ("resume",)),
    Flag(
        "seed",
        int,
        0,
        "resume: decides the steps of the kills",
        (0, 2**32 - 1),
        ("resume",),
    ),
    Flag(
        "devices",
        list,
        ["1", "2", "4", "8"],
        "devices: numbers of devices",
        actions=("devices",),
    ),
    Flag("processes", list, [], "devices: numbers of processes", actions=("devices",)),
)


def _verify(values: flags.FlagValues, rest: list[str]) -> int:
    action, words, overrides = split_action("verify", rest, ("resume", "devices"))
    refuse_words(words)
    refuse_unread(values, FLAGS, "verify", action)
    spec = require(values, "config", "configs/NAME.py")
    if action == "devices":
        return devices.verify(
            spec,
            overrides,
            devices=devices.read_counts(get(values, "devices"), "devices"),
            processes=devices.read_counts(get(values, "processes"), "processes"),
            steps=get(values, "steps") or STEPS,
        )
    if steps := get(values, "steps"):
        overrides = [*resume.shortened(steps), *overrides]
    workdir = get(values, "workdir")
    return resume.verify(
        spec,
        overrides,
        kills=get(values, "kills"),
        seed=get(values, "seed"),
        folder=Path(workdir) if workdir else None,
    )


VERB = Verb(
    _verify,
    FLAGS,
    "verify resume | devices --config=FILE[:variant] [--steps=N] [flags]",
    __doc__,
)
