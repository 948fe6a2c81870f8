"""``jaxssl report`` and ``jaxssl checkpoint``: look at a run without changing it."""

from pathlib import Path

from absl import flags

from jaxssl import settings
from jaxssl.cli.verb import Verb, define_workdir, get, refuse_words, require
from jaxssl.train import inventory
from jaxssl.train.codes import ExitCode
from jaxssl.types import UserError


def _define_report(values: flags.FlagValues) -> None:
    define_workdir(values)
    flags.DEFINE_list(
        "baselines",
        [],
        "runs to compare with: NAME=WORKDIR,NAME=WORKDIR",
        flag_values=values,
    )
    flags.DEFINE_list(
        "stored",
        [],
        "results to compare with: experiments/results/NAME.json",
        flag_values=values,
    )


def _report(values: flags.FlagValues, rest: list[str]) -> int:
    from jaxssl.report import page  # Brings matplotlib, which the other verbs spare.

    refuse_words(rest)
    workdir = Path(require(values, "workdir", "runs/NAME"))
    baselines = {}
    for word in get(values, "baselines"):
        name, equals, folder = word.partition("=")
        if not (name and equals and folder):
            raise UserError(f"--baselines has {word!r}; write NAME=WORKDIR.")
        baselines[name] = Path(folder)
    stored = [Path(name) for name in get(values, "stored")]
    page_path = page.write(workdir, baselines=baselines, stored=stored)
    print(f"report: {page_path.absolute()}")
    return 0


def _checkpoint(values: flags.FlagValues, rest: list[str]) -> int:
    settings.choice(
        "the word after checkpoint", rest[0] if rest else "", ("list", "verify")
    )
    refuse_words(rest[1:])
    workdir = Path(require(values, "workdir", "runs/NAME"))
    if not workdir.is_dir():
        raise UserError(f"--workdir: there is no folder {workdir}.")
    if rest[0] == "list":
        print(inventory.list_text(workdir))
        return 0
    text, good = inventory.verify_text(workdir)
    print(text)
    return ExitCode.DONE if good else ExitCode.NO_CHECKPOINT


REPORT = Verb(
    _report,
    _define_report,
    "report --workdir=DIR [--baselines=NAME=DIR,...] [--stored=FILE,...]",
    "Write DIR/report.html: one page that needs no network.\n",
)

CHECKPOINT = Verb(
    _checkpoint,
    define_workdir,
    "checkpoint list | verify --workdir=DIR",
    """\
list     steps, sizes and dates of the checkpoints of a run
verify   compare every file with its checksums; exit code 4 if a checkpoint is damaged,
         or if all that is left are damaged ones that were set aside
""",
)
