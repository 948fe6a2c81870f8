"""What was done to runs on purpose, and what became of them.

A test that injects faults counts them and asks the fixture ``faults`` to record them;
``make test-slow`` keeps the counts in experiments/results/faults.json, from which
docs/make_tables.py writes the table of docs/faults.md.
"""

import contextlib
import fcntl
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent


class Fault(NamedTuple):
    """A kind of fault.

    Attributes:
      injected: what is done.
      promise: what must hold then.
    """

    injected: str
    promise: str


FAULTS = {
    "F1": Fault(
        "kill -9 at any moment of a save",
        "the newest acknowledged step is there, bit for bit; no leftovers",
    ),
    "F2": Fault(
        "kill -9 at random steps, at least three in a run",
        "the resumed run ends with the bits of an undisturbed one",
    ),
    "F3": Fault(
        "bits flipped, files cut, zeroed, removed or added in a checkpoint",
        "found before use, set aside by name, the step before it is taken",
    ),
    "F4": Fault(
        "all kept checkpoints damaged", "exit code 4, every file stays as it is"
    ),
    "F5": Fault(
        "disk full, read-only, failing (EIO) or slow",
        "one line and exit code 74, or training goes on; good steps stay",
    ),
    "F6": Fault(
        "settings of a wrong name, type, range, size or combination",
        "one line, exit code 2, nothing compiled, nothing written",
    ),
    "F7": Fault(
        "a setting changed between two starts of a run",
        "exit code 7 with the old and the new value, or a line where it may change",
    ),
    "F8": Fault("another dtype than the checkpoint's", "refused by the leaf's name"),
    "F9": Fault(
        "NaN or infinity in a loss, a gradient, the data or an optimizer",
        "skipped and counted, stopped after three, never saved",
    ),
    "F10": Fault(
        "records that cannot be read",
        "replaced and counted, and named when there are too many",
    ),
    "F11": Fault(
        "a reading process killed or raising, or its parent killed",
        "an error within 30 s that says why; no process is left",
    ),
    "F12": Fault(
        "sizes, hosts, workers and starts of the input",
        "every record once an epoch, one order for all, equal batches",
    ),
    "F13": Fault(
        "a process killed, frozen, stuck, slow, late, or the coordinator gone",
        "the others end in time with the right code; a slow one is waited for",
    ),
    "F14": Fault(
        "SIGTERM to one process or all, while it saves, evaluates or compiles",
        "one step is saved by all, exit code 75, the resumed run is bit-equal",
    ),
    "F15": Fault(
        "a checkpoint restored on other processes, devices or mesh shapes",
        "every leaf bit-equal after restore, losses close afterwards",
    ),
    "F16": Fault(
        "two trainers in a folder, a stale lock, links, a clock that jumps",
        "the second trainer is refused; the others make no difference",
    ),
    "F17": Fault(
        "a run of other software or of a format from before",
        "named, or refused in one line; never taken for whole",
    ),
    "F18": Fault(
        "chains of restarts that mix the faults above under jaxssl supervise",
        "the last state has the bits of an undisturbed run",
    ),
    "F19": Fault(
        "programs compiled for machines that are not there",
        "compiled with 10 % of the memory free, or one line that says what to change",
    ),
    "F20": Fault("a guard removed from the code", "a test fails"),
    "F21": Fault(
        "labels that are no classes, missing, wrapped, or lost from their file",
        "named in one line, or counted aloud and left out; never another class",
    ),
    "F22": Fault(
        "files and folders of the data that are no images, linked, damaged or swapped",
        "read, or left out by name and reason; other content ends a run with code 7",
    ),
    "F24": Fault(
        "bits flipped in any file of a workdir, the file cut or replaced: null, list, "
        "deep nesting, huge number, FIFO, folder, link",
        "every command ends with at most one line; good checkpoints stay; what was "
        "replaced is named",
    ),
}


class Ledger:
    """Keeps what one test did and found."""

    def __init__(self, test: str, path: Path | None):
        """Keep the counts of ``test`` in ``path``, if there is one, beside others'.

        What the test counted before leaves the file, so that a test that fails now
        counts no more.
        """
        self._test = test
        self._path = path
        if path is not None:
            with _opened(path) as found:
                for counts in found.values():
                    counts.pop(test, None)

    def record(
        self,
        fault: str,
        *,
        injected: int,
        survived: int,
        lost: int = 0,
        silent: int = 0,
    ) -> None:
        """Note what a test found, and fail unless every promise held.

        Args:
          fault: a key of ``FAULTS``.
          injected: number of faults.
          survived: number of those whose promise held.
          lost: acknowledged steps, records or settings that were gone afterwards.
          silent: faults of which nobody was told.
        """
        assert fault in FAULTS
        if self._path is not None:
            with _opened(self._path) as found:
                found.setdefault(fault, {})[self._test] = {
                    "injected": injected,
                    "survived": survived,
                    "lost": lost,
                    "silent": silent,
                    "commit": _commit(),
                }
        assert injected > 0
        assert (survived, lost, silent) == (injected, 0, 0), fault


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[dict]:
    """Give the counts to be changed; several processes that test take turns."""
    with path.open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        found = json.loads(file.read() or "{}")
        yield found
        kept = {fault: found[fault] for fault in FAULTS if found.get(fault)}
        file.truncate(0)
        file.write(json.dumps(kept, indent=1) + "\n")


def _commit() -> str:
    """Name the code that is tested; what a run writes down is no change of it."""
    unchanged = ["git", "diff", "--quiet", "HEAD", "--", ".", ":!experiments/results"]
    dirty = subprocess.run(unchanged, cwd=ROOT).returncode
    command = ["git", "rev-parse", "--short", "HEAD"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    return found.stdout.strip() + ("-dirty" if dirty else "")
