"""List, prepare or check data sets.

list     the names of data sets, and the folder of each
prepare  download a TFDS data set (tfds:NAME) and store it as array_record
doctor   read a whole data set: counts, sizes, classes, damaged records by name
"""

from absl import flags

from jaxssl.cli.verb import (
    Flag,
    Verb,
    get,
    refuse_unread,
    refuse_words,
    split_action,
)
from jaxssl.data import doctor, registry
from jaxssl.errors import UserError
from jaxssl.run import config_file
from jaxssl.train.setup import set_up

FLAGS = (
    Flag("data_dir", str, None, "folder of the data"),
    Flag("split", str, "train", "the split that doctor reads", actions=("doctor",)),
    Flag(
        "config",
        str,
        None,
        "doctor reads the training set of this file",
        actions=("doctor",),
    ),
)


def _data(values: flags.FlagValues, rest: list[str]) -> int:
    actions = ("list", "prepare", "doctor")
    action, names, overrides = split_action("data", rest, actions)
    data_dir, config = get(values, "data_dir"), get(values, "config")
    refuse_unread(values, FLAGS, "data", action)
    if overrides and not config:
        raise UserError(f"{overrides[0]!r} changes a config; give --config=FILE.")
    if config and (given := [n for n in ("data_dir", "split") if values[n].present]):
        raise UserError(
            f"--{given[0]} is for doctor NAME; with --config the config says what is "
            "read."
        )
    if action == "list":
        refuse_words(names)
        print(doctor.list_text(data_dir=data_dir))
        return 0
    if action == "doctor" and config:
        refuse_words(names)
        source = set_up(config_file.load(config, overrides)).experiment.train_set
    elif len(names) != 1:
        raise UserError(f"data {action} needs one name; see: jaxssl data list")
    elif action == "prepare":
        print(doctor.prepare(names[0], data_dir=data_dir))
        return 0
    else:
        source = registry.load(names[0], split=get(values, "split"), data_dir=data_dir)
    print(doctor.render(doctor.doctor(source)))
    return 0


VERB = Verb(
    _data,
    FLAGS,
    "data list | prepare NAME | doctor NAME | doctor --config=FILE",
    __doc__,
)
