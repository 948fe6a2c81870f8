"""List, prepare or check data sets.

list     the names of data sets, and the folder of each
prepare  download a TFDS data set (tfds:NAME) and store it as array_record
doctor   read a whole data set: counts, sizes, classes, damaged records by name, and
         each file and folder that is left out
"""

from collections.abc import Mapping

from absl import flags

from jaxssl.cli.verb import Flag, Verb, get, refuse_words, split_action
from jaxssl.data import doctor, listing, registry
from jaxssl.data.source import Source
from jaxssl.errors import UserError
from jaxssl.run import config_file
from jaxssl.train.setup import set_up

FLAGS = (
    Flag("data_dir", str, None, "folder of the data"),
    Flag("split", str, "train", "the split that doctor reads"),
    Flag("load_size", int, None, "doctor: the shorter side after scaling, pixels", 1),
    Flag("image_key", str, None, "doctor: name of the images in a npz or TFDS set"),
    Flag("label_key", str, None, "doctor: name of the labels in a npz or TFDS set"),
    Flag("config", str, None, "doctor reads the training set of this file"),
)

# Flags of the data set that doctor opens by name.
_OPTIONS = ("data_dir", "load_size", "image_key", "label_key")

# Which flags and overrides each use of the verb reads.
_READ = {
    "list": {"data_dir"},
    "prepare": {"data_dir"},
    "doctor": {*_OPTIONS, "split"},
    "doctor --config": {"config"},
}


def _data(values: flags.FlagValues, rest: list[str]) -> int:
    actions = ("list", "prepare", "doctor")
    action, names, overrides = split_action("data", rest, actions)
    by_config = action == "doctor" and get(values, "config")
    _refuse_unread(values, f"{action} --config" if by_config else action)
    if overrides and not by_config:
        raise UserError(f"{overrides[0]!r} is read with doctor --config=FILE alone.")
    if action == "list" or by_config:
        refuse_words(names)
    elif len(names) != 1:
        raise UserError(f"data {action} needs one name; see: jaxssl data list")
    if action == "list":
        print(doctor.list_text(data_dir=get(values, "data_dir")))
    elif action == "prepare":
        print(doctor.prepare(names[0], data_dir=get(values, "data_dir")))
    elif by_config:
        setup = set_up(config_file.load(by_config, overrides))
        _examine(setup.experiment.train_set, setup.sources)
    else:
        given = {name: get(values, name) for name in _OPTIONS}
        options = {name: value for name, value in given.items() if value is not None}
        source = registry.load(names[0], split=get(values, "split"), **options)
        _examine(source, {names[0]: source})
    return 0


def _refuse_unread(values: flags.FlagValues, use: str) -> None:
    """Refuse flags that one use of the verb does not read.

    Raises:
      UserError: names the first such flag.
    """
    for flag in FLAGS:
        if values[flag.name].present and flag.name not in _READ[use]:
            raise UserError(
                f"--{flag.name} is not read by data {use}; leave it out. It reads: "
                f"{', '.join(f'--{name}' for name in sorted(_READ[use]))}."
            )


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
