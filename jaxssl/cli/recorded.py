"""``jaxssl train`` with a record of its input; ``jaxssl verify resume`` starts it.

    python -m jaxssl.cli.recorded '{"record": FILE, "kill": null}' train --config=...

Everything else is the real command.
"""

import functools
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from jaxssl import cli
from jaxssl.cli import train
from jaxssl.verify import recording


def main(argv: Sequence[str]) -> int:
    """Run ``jaxssl train``, record its batches, and kill it if asked.

    Args:
      argv: JSON with the file of the record and the fields of a `KillSpec` or null;
        then the words of ``jaxssl``.

    Returns:
      The exit code.
    """
    job = json.loads(argv[0])
    kill = recording.KillSpec(**job["kill"]) if job["kill"] else None
    around = functools.partial(recording.record, path=Path(job["record"]), kill=kill)
    verb = train.VERB._replace(run=functools.partial(train.run, around=around))
    return cli.main(argv[1:], verbs={"train": verb})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
