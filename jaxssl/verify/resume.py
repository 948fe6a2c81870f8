"""``jaxssl verify resume``: kill a run at random, go on, and miss nothing."""

import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from jaxssl import text
from jaxssl.checkpoint import store as checkpoints
from jaxssl.config import section
from jaxssl.errors import ChildFailedError, ExitCode, UserError
from jaxssl.run import config_file
from jaxssl.train import config as train_config
from jaxssl.verify import recording

SAVE_SECONDS = 0.15
"""A kill inside of a save comes up to so long after it began."""

STEP_SECONDS = 0.02
"""Any other one comes up to so long after its step was dispatched."""

SLOWER = 20
"""A start that takes so many times longer than the whole undisturbed run hangs."""


class Kill(NamedTuple):
    """A start that was killed.

    Attributes:
      at: step whose batch had been read.
      saving: whether a save had begun.
      kept: the step that the next start has to go on after.
    """

    at: int
    saving: bool
    kept: int


class Trial(NamedTuple):
    """How every start of the two runs is made.

    Attributes:
      words: what stands behind ``jaxssl train``, but for the folder.
      train: the section ``train`` after all overrides.
      folder: holds both runs, what they read, and their output.
      say: takes one line for a person.
    """

    words: Sequence[str]
    train: train_config.TrainConfig
    folder: Path
    say: Callable[[str], object]


def shortened(steps: int) -> list[str]:
    """Return the overrides that make a run short, with a few saves on the way."""
    part = max(1, steps // 5)
    return [
        f"--config.train.num_steps={steps}",
        f"--config.train.save_every={part}",
        f"--config.train.log_every={part}",
        f"--config.train.eval_every={steps}",
    ]


def verify(
    spec: str,
    words: Sequence[str],
    *,
    kills: int,
    seed: int,
    folder: Path | None,
    say: Callable[[str], object] = print,
) -> int:
    """Train a config undisturbed, and with kills; compare all there is to compare.

    Args:
      spec: ``FILE`` or ``FILE:variant``.
      words: overrides.
      kills: how often the second run is killed.
      seed: decides where.
      folder: keeps both runs; None for a temporary one.
      say: takes one line for a person.

    Returns:
      The exit code: DONE, or DIFFERENT.

    Raises:
      UserError: the config cannot be read, or the run is too short to be killed.
      ChildFailedError: a start ended with an exit code that is not that of a kill.
    """
    config = config_file.load(spec, words).config
    train = section.read(train_config.TrainConfig, config, "train")
    if train.num_steps < 3:
        raise UserError(
            f"train.num_steps is {train.num_steps}; a run needs 3 steps to be killed "
            "on the way."
        )
    if folder is not None and folder.exists() and any(folder.iterdir()):
        raise UserError(f"--workdir: {folder} is not empty; give a new folder.")
    with tempfile.TemporaryDirectory(prefix="jaxssl-verify-") as scratch:
        place = folder or Path(scratch)
        place.mkdir(parents=True, exist_ok=True)
        trial = Trial([f"--config={spec}", *words], train, place, say)
        return _compare(trial, _run_both(trial, kills, random.Random(seed)))


def _run_both(trial: Trial, kills: int, rng: random.Random) -> list[Kill]:
    """Run undisturbed, then with kills; say one line about each start."""
    began = time.monotonic()
    _start(trial, "undisturbed", None, None)
    took = time.monotonic() - began
    length = trial.train.num_steps
    trial.say(f"undisturbed: {length} steps in {text.format_seconds(took)}")
    done: list[Kill] = []
    first = 0
    for number in range(kills):
        if not (steps := _steps_to_kill(trial, first, kills - number)):
            break
        strike = _draw(trial, steps, rng, in_save=number % 2 == 0)
        _start(trial, "killed", strike, SLOWER * took)
        kept = checkpoints.find_newest(trial.folder / "killed")[0] or 0
        done.append(Kill(strike.step, strike.after is not None, kept))
        when = "in the save after" if done[-1].saving else "in"
        trial.say(
            f"kill {number + 1}: {when} step {strike.step}; "
            f"step {kept} was the newest good one"
        )
        first = kept
    _start(trial, "killed", None, SLOWER * took)
    trial.say(f"last start: went on to step {length}")
    return done


def _steps_to_kill(trial: Trial, first: int, kills: int) -> range:
    """Return where to kill next, so that there is room for the kills that follow.

    Not in the last step: it must not be done before the kill comes.
    """
    last = trial.train.num_steps - 2
    share = -(-(last - first) // kills)
    return range(max(first, 1), min(first + share, last) + 1)


def _draw(
    trial: Trial, steps: range, rng: random.Random, *, in_save: bool
) -> recording.Strike:
    """Draw at which of the steps a start is killed, and how long after its batch."""
    saves = [step for step in steps if step % trial.train.save_every == 0]
    if in_save and saves:
        saving = trial.folder / "killed" / checkpoints.FOLDER / checkpoints.SAVING
        delay = rng.uniform(0, SAVE_SECONDS)
        return recording.Strike(rng.choice(saves), delay, str(saving))
    return recording.Strike(rng.choice(steps), rng.uniform(0, STEP_SECONDS), None)


def _start(
    trial: Trial, name: str, strike: recording.Strike | None, timeout: float | None
) -> None:
    """Run ``jaxssl train`` as a process until it ends, or kills itself.

    Raises:
      FailedError: it did neither.
    """
    how = {
        "record": str(trial.folder / f"{name}.batches.jsonl"),
        "strike": strike._asdict() if strike else None,
    }
    command = [sys.executable, "-m", "jaxssl.cli.recorded", json.dumps(how), "train"]
    workdir = trial.folder / name
    with (trial.folder / f"{name}.log").open("ab") as log:
        child = subprocess.Popen(
            [*command, *trial.words, f"--workdir={workdir}"],
            stdout=log,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            _, told = child.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            child.kill()
            child.communicate()
            raise ChildFailedError(
                ExitCode.BUG, f"a start of {workdir} took more than {timeout:.0f} s."
            ) from None
        finally:
            child.kill()
    wanted = 0 if strike is None else -signal.SIGKILL
    if child.returncode != wanted:
        line = (told.strip().splitlines() or ["it said nothing"])[-1]
        line = line.removeprefix("jaxssl: ")
        code = child.returncode if child.returncode > 0 else ExitCode.BUG
        raise ChildFailedError(
            code,
            f"jaxssl train ended with {child.returncode} instead of {wanted}: {line}",
        )


def _compare(trial: Trial, kills: list[Kill]) -> int:
    """Print the table; return DONE, or DIFFERENT and the first difference."""
    whole, other = (trial.folder / name for name in ("undisturbed", "killed"))
    starts = recording.read_starts(trial.folder / "killed.batches.jsonl")
    expected = [0, *(kill.kept for kill in kills)]
    position = None
    if [start.step for start in starts] != expected:
        position = (
            f"the data began at steps {[start.step for start in starts]}; the states "
            f"were those of {expected}"
        )
    reference = recording.read_starts(trial.folder / "undisturbed.batches.jsonl")
    again, batches = recording.compare_batches(reference, starts)
    rows = [
        ("data position", f"{len(starts)} starts", position),
        ("batches", f"{trial.train.num_steps}, and {again} read again", batches),
    ]
    both = [checkpoints.steps(folder) for folder in (whole, other)]
    listed = None if both[0] == both[1] else f"{both[0]} undisturbed, {both[1]} resumed"
    rows.append(("checkpoints", ", ".join(map(str, both[0])), listed))
    for step in [step for step in both[0] if step in both[1]]:
        count, size, told = recording.compare_states(whole, other, step)
        rows.append((f"state of step {step}", f"{count} leaves, {size:,} bytes", told))
    count, told = recording.compare_metrics(whole, other)
    rows.append(("metrics", f"{count} records", told))
    width = max(len(text) for row in rows for text in row[:2])
    for what, how_many, told in rows:
        trial.say(f"  {what:<20} {how_many:<{width}} {'DIFFERS' if told else 'equal'}")
    different = [told for _, _, told in rows if told]
    if different:
        trial.say(f"first difference: {different[0]}")
        return ExitCode.DIFFERENT
    trial.say(f"equal bit for bit after {len(kills)} kills")
    return ExitCode.DONE
