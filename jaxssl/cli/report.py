"""Write DIR/report.html: one page that needs no network."""

from pathlib import Path

from absl import flags

from jaxssl.cli.verb import WORKDIR, Flag, Verb, get, refuse_words, require, say
from jaxssl.errors import UserError

FLAGS = (
    WORKDIR,
    Flag("baselines", list, [], "runs to compare with: NAME=WORKDIR,NAME=WORKDIR"),
    Flag("stored", list, [], "results to compare with: experiments/results/NAME.json"),
)


def _report(values: flags.FlagValues, rest: list[str]) -> int:
    from jaxssl.report import page  # It imports matplotlib, which is slow to import.

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
    say(f"report: {page_path.absolute()}")
    return 0


VERB = Verb(
    _report,
    FLAGS,
    "report --workdir=DIR [--baselines=NAME=DIR,...] [--stored=FILE,...]",
    __doc__,
)
