"""``jaxssl data``."""

from absl import flags

from jaxssl.cli.verb import Verb, define_config, get, refuse_words, split_action
from jaxssl.data import doctor
from jaxssl.errors import UserError
from jaxssl.run import config_file
from jaxssl.train.setup import set_up


def _define_data(values: flags.FlagValues) -> None:
    flags.DEFINE_string("data_dir", None, "folder of the data", flag_values=values)
    flags.DEFINE_string(
        "split", "train", "the split that doctor reads", flag_values=values
    )
    define_config(values, "doctor reads the training set of this file")


def _data(values: flags.FlagValues, rest: list[str]) -> int:
    actions = ("list", "prepare", "doctor")
    action, names, overrides = split_action("data", rest, actions)
    data_dir, config = get(values, "data_dir"), get(values, "config")
    if action == "list":
        refuse_words(names)
        print(doctor.list_text(data_dir=data_dir))
        return 0
    if action == "doctor" and config:
        refuse_words(names)
        setup = set_up(config_file.load(config, overrides))
        print(doctor.render(doctor.doctor(setup.experiment.train_set)))
        return 0
    if len(names) != 1:
        raise UserError(f"data {action} needs one name; see: jaxssl data list")
    if action == "prepare":
        print(doctor.prepare(names[0], data_dir=data_dir))
    else:
        split = get(values, "split")
        print(doctor.doctor_text(names[0], split=split, data_dir=data_dir))
    return 0


VERB = Verb(
    _data,
    _define_data,
    "data list | prepare NAME | doctor NAME | doctor --config=FILE",
    """\
list     the names of data sets, and the folder of each
prepare  download a TFDS data set (tfds:NAME) and store it as array_record
doctor   read a whole data set: counts, sizes, classes, damaged records by name
""",
)
