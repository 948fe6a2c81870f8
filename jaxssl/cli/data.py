"""``jaxssl data``."""

from absl import flags

from jaxssl.cli.verb import Verb, get, is_override, refuse_words
from jaxssl.config import checks
from jaxssl.data import doctor
from jaxssl.errors import UserError
from jaxssl.run import config_file
from jaxssl.train.setup import set_up


def _define_data(values: flags.FlagValues) -> None:
    flags.DEFINE_string("data_dir", None, "folder of the data", flag_values=values)
    flags.DEFINE_string("split", "train", "what doctor reads", flag_values=values)
    flags.DEFINE_string(
        "config", None, "doctor reads the training set of this file", flag_values=values
    )


def _data(values: flags.FlagValues, rest: list[str]) -> int:
    what = [word for word in rest if not is_override(word)]
    checks.choice(
        "the word after data", what[0] if what else "", ("list", "prepare", "doctor")
    )
    data_dir, config = get(values, "data_dir"), get(values, "config")
    if what[0] == "list":
        refuse_words(what[1:])
        print(doctor.list_text(data_dir=data_dir))
        return 0
    if what[0] == "doctor" and config:
        refuse_words(what[1:])
        overrides = [word for word in rest if is_override(word)]
        setup = set_up(config_file.load(config, overrides))
        print(doctor.render(doctor.doctor(setup.experiment.train_set)))
        return 0
    if len(what) != 2:
        raise UserError(f"data {what[0]} needs one name; see: jaxssl data list")
    if what[0] == "prepare":
        print(doctor.prepare(what[1], data_dir=data_dir))
    else:
        split = get(values, "split")
        print(doctor.doctor_text(what[1], split=split, data_dir=data_dir))
    return 0


VERB = Verb(
    _data,
    _define_data,
    "data list | prepare NAME | doctor NAME | doctor --config=FILE",
    """\
list     data sets by name, and where each one is
prepare  download a TFDS data set (tfds:NAME) and store it as array_record
doctor   read a whole data set: counts, sizes, classes, damaged records by name
""",
)
