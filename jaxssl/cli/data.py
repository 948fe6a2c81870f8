"""List, prepare or check data sets.

list     the names of data sets, and the folder of each
prepare  download a TFDS data set (tfds:NAME) and store it as array_record
doctor   read a whole data set: counts, sizes, classes, damaged records by name, and
         each file and folder that is left out
"""

from collections.abc import Mapping

from absl import flags

from jaxssl.cli.verb import (
    Flag,
    Verb,
    get,
    refuse_unread,
    refuse_words,
    split_action,
)
from jaxssl.data import doctor, listing, registry
from jaxssl.data.source import Source
from jaxssl.errors import UserError
from jaxssl.run import config_file
from jaxssl.train.setup import set_up

DOCTOR = ("doctor",)

FLAGS = (
    Flag("data_dir", str, None, "folder of the data"),
    Flag("split", str, "train", "the split that is read", None, DOCTOR),
    Flag("load_size", int, None, "shorter side after scaling", (1, 65_536), DOCTOR),
    Flag("image_key", str, None, "name of a npz's or TFDS set's images", None, DOCTOR),
    Flag("label_key", str, None, "name of a npz's or TFDS set's labels", None, DOCTOR),
    Flag("config", str, None, "read the training set of this file", None, DOCTOR),
)

# Flags of the data set that doctor opens by name.
_OPTIONS = ("data_dir", "load_size", "image_key", "label_key")


def _data(values: flags.FlagValues, rest: list[str]) -> int:
    actions = ("list", "prepare", "doctor")
    action, names, overrides = split_action("data", rest, actions)
    refuse_unread(values, FLAGS, "data", action)
    config = get(values, "config")
    if overrides and not config:
        raise UserError(f"{overrides[0]!r} changes a config; give --config=FILE.")
    named = [name for name in (*_OPTIONS, "split") if values[name].present]
    if config and named:
        raise UserError(
            f"--{named[0]} is for doctor NAME; with --config the config says what is "
            "read."
        )
    if action == "list" or config:
        refuse_words(names)
    elif len(names) != 1:
        raise UserError(f"data {action} needs one name; see: jaxssl data list")
    if action == "list":
        print(doctor.list_text(data_dir=get(values, "data_dir")))
    elif action == "prepare":
        print(doctor.prepare(names[0], data_dir=get(values, "data_dir")))
    elif config:
        setup = set_up(config_file.load(config, overrides))
        _examine(setup.experiment.train_set, setup.sources)
    else:
        given = {name: get(values, name) for name in _OPTIONS}
        options = {name: value for name, value in given.items() if value is not None}
        source = registry.load(names[0], split=get(values, "split"), **options)
        _examine(source, {names[0]: source})
    return 0


def _examine(train_set: Source, opened: Mapping[str, Source]) -> None:
    """Print what one data set holds, and what is left out of all that were opened."""
    print(doctor.render(doctor.doctor(train_set)))
    for source in opened.values():
        if left_out := listing.left_out_of(source):
            print(f"{source.name}: {doctor.render_left_out(left_out)}")


VERB = Verb(
    _data,
    FLAGS,
    "data list | prepare NAME | doctor NAME | doctor --config=FILE",
    __doc__,
)
