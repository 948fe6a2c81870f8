"""List or verify the checkpoints of a run.

list     steps, sizes and dates of the checkpoints of a run
verify   compare every file with its checksums; exit code 4 if a checkpoint is damaged,
         or if only damaged checkpoints that were set aside are left
"""

from pathlib import Path

from absl import flags

from jaxssl.checkpoint import listing
from jaxssl.cli.verb import WORKDIR, Verb, refuse_words, require, split_action
from jaxssl.errors import NoValidCheckpointError, UserError


def _checkpoint(values: flags.FlagValues, rest: list[str]) -> int:
    action, words, _ = split_action("checkpoint", rest, ("list", "verify"))
    refuse_words(words)
    workdir = Path(require(values, "workdir", "runs/NAME"))
    if not workdir.is_dir():
        raise UserError(f"--workdir: there is no folder {workdir}.")
    if action == "list":
        print(listing.list_text(workdir))
        return 0
    text, good = listing.verify_text(workdir)
    print(text, flush=True)
    if not good:
        raise NoValidCheckpointError(
            f"{workdir} has damaged checkpoints, see above. Bring back a copy, or "
            "train on from the newest good one, if there is one."
        )
    return 0


VERB = Verb(
    _checkpoint,
    (WORKDIR,),
    "checkpoint list | verify --workdir=DIR",
    __doc__,
)
