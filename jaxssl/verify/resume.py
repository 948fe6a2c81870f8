"""``jaxssl verify resume``: kill a run at random steps, resume it, compare all bits."""

import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from jaxssl import text
from jaxssl.checkpoint import store as checkpoints
from jaxssl.config import section
from jaxssl.errors import ChildFailedError, ExitCode, UserError
from jaxssl.run import config_file
from jaxssl.train import config as train_config
from jaxssl.verify import recording

# Largest delay in seconds between the beginning of a save and the kill inside of it.
SAVE_SECONDS = 0.15

# Largest delay in seconds between the dispatch of a step and the kill in that step.
STEP_SECONDS = 0.02

# A start that takes more than this many times the undisturbed run counts as hung.
SLOWER = 20

UNDISTURBED, KILLED = "undisturbed", "killed"


class KilledStart(NamedTuple):
    """A start that was killed.

    Attributes:
      step: the step whose batch had been read.
      saving: whether a save had begun.
      kept: the step of the newest good checkpoint, after which the next start goes on.
    """

    step: int
    saving: bool
    kept: int


class RunPair(NamedTuple):
    """How every start of the undisturbed and of the killed run is made.

    Attributes:
      arguments: the arguments of ``jaxssl train``, without ``--workdir``.
      train: the section ``train`` after all overrides.
      folder: holds both runs, the records of their batches, and their output.
      say: takes one line for a person.
    """

    arguments: Sequence[str]
    train: train_config.TrainConfig
    folder: Path
    say: text.Say


def shortened(steps: int) -> list[str]:
    """Return the overrides that make a run short, with about five saves."""
    part = max(1, steps // 5)
    return [
        f"--config.train.num_steps={steps}",
        f"--config.train.save_every={part}",
        f"--config.train.log_every={part}",
        f"--config.train.eval_every={steps}",
    ]


def verify(
    spec: str,
    overrides: Sequence[str],
    *,
    kills: int,
    seed: int,
    folder: Path | None,
    say: text.Say = print,
) -> int:
    """Train a config undisturbed and with kills, and compare the two runs.

    Args:
      spec: ``FILE`` or ``FILE:variant``.
      overrides: arguments such as ``--config.seed=1``.
      kills: how many times the second run is killed.
      seed: decides at which steps, and how long after each step.
      folder: keeps both runs; None for a temporary folder.
      say: takes one line for a person.

    Returns:
      The exit code: DONE, or DIFFERENT.

    Raises:
      UserError: the config cannot be read, or the run is too short to be killed.
      ChildFailedError: a start ended with an exit code that is not that of a kill.
    """
    config = config_file.load(spec, overrides).config
    train = section.read(train_config.TrainConfig, config, "train")
    if train.num_steps < 3:
        raise UserError(
            f"train.num_steps is {train.num_steps}; a run needs 3 steps to be killed "
            "on the way."
        )
    if folder is not None and folder.exists() and any(folder.iterdir()):
        raise UserError(f"--workdir: {folder} is not empty; give a new folder.")
    with tempfile.TemporaryDirectory(prefix="jaxssl-verify-") as scratch:
        folder = folder or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        pair = RunPair([f"--config={spec}", *overrides], train, folder, say)
        return _compare(pair, _run_both(pair, kills, random.Random(seed)))


def _run_both(pair: RunPair, kills: int, rng: random.Random) -> list[KilledStart]:
    """Run undisturbed, then with kills; say one line about each start."""
    began = time.monotonic()
    _start(pair, UNDISTURBED, None, None)
    seconds = time.monotonic() - began
    length = pair.train.num_steps
    pair.say(f"undisturbed: {length} steps in {text.format_seconds(seconds)}")
    killed: list[KilledStart] = []
    first = 0
    for number in range(kills):
        if not (steps := _steps_to_kill(pair, first, kills - number)):
            break
        kill = _draw(pair, steps, rng, in_save=number % 2 == 0)
        _start(pair, KILLED, kill, SLOWER * seconds)
        kept = checkpoints.find_newest(pair.folder / KILLED)[0] or 0
        killed.append(KilledStart(kill.step, kill.file is not None, kept))
        when = "in the save after" if killed[-1].saving else "in"
        pair.say(
            f"kill {number + 1}: {when} step {kill.step}; "
            f"step {kept} was the newest good one"
        )
        first = kept
    _start(pair, KILLED, None, SLOWER * seconds)
    pair.say(f"last start: went on to step {length}")
    return killed


def _steps_to_kill(pair: RunPair, first: int, kills: int) -> range:
    """Return the steps of the next kill; the kills after it need steps, too.

    The last step is not among them: the run might end before it is killed.
    """
    last = pair.train.num_steps - 2
    share = -(-(last - first) // kills)
    return range(max(first, 1), min(first + share, last) + 1)


def _draw(
    pair: RunPair, steps: range, rng: random.Random, *, in_save: bool
) -> recording.KillSpec:
    """Draw the step of a kill and the delay after it."""
    saves = [step for step in steps if step % pair.train.save_every == 0]
    if in_save and saves:
        saving = pair.folder / KILLED / checkpoints.FOLDER / checkpoints.SAVING
        delay = rng.uniform(0, SAVE_SECONDS)
        return recording.KillSpec(rng.choice(saves), delay, str(saving))
    return recording.KillSpec(rng.choice(steps), rng.uniform(0, STEP_SECONDS), None)


def _start(
    pair: RunPair, name: str, kill: recording.KillSpec | None, timeout: float | None
) -> None:
    """Run ``jaxssl train`` as a process until it ends, or kills itself.

    Raises:
      ChildFailedError: it did neither.
    """
    job = {
        "record": str(pair.folder / f"{name}.batches.jsonl"),
        "kill": kill._asdict() if kill else None,
    }
    command = [sys.executable, "-m", "jaxssl.cli.recorded", json.dumps(job), "train"]
    workdir = pair.folder / name
    with (pair.folder / f"{name}.log").open("ab") as log:
        try:
            done = subprocess.run(
                [*command, *pair.arguments, f"--workdir={workdir}"],
                stdout=log,
                stderr=subprocess.PIPE,
                text=True,
                timeout=timeout,
            )
        except subprocess.TimeoutExpired:
            raise ChildFailedError(
                ExitCode.BUG, f"a start of {workdir} took more than {timeout:.0f} s."
            ) from None
    expected = 0 if kill is None else -signal.SIGKILL
    if done.returncode != expected:
        line = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise ChildFailedError(
            max(done.returncode, ExitCode.BUG),
            f"jaxssl train ended with {done.returncode} instead of {expected}: "
            + line.removeprefix("jaxssl: "),
        )


def _compare(pair: RunPair, killed: list[KilledStart]) -> int:
    """Print the table; return DONE, or DIFFERENT and the first difference."""
    whole, other = pair.folder / UNDISTURBED, pair.folder / KILLED
    reference, starts = (
        recording.read_starts(pair.folder / f"{name}.batches.jsonl")
        for name in (UNDISTURBED, KILLED)
    )
    expected = [0, *(start.kept for start in killed)]
    opened = [start.step for start in starts]
    difference = None
    if opened != expected:
        difference = (
            f"the data began at steps {opened}; the states were those of {expected}"
        )
    rows = [("data position", f"{len(starts)} starts", difference)]
    repeated, difference = recording.compare_batches(reference, starts)
    read = f"{pair.train.num_steps}, and {repeated} read again"
    rows.append(("batches", read, difference))
    ours, theirs = checkpoints.steps(whole), checkpoints.steps(other)
    difference = None if ours == theirs else f"{ours} undisturbed, {theirs} resumed"
    rows.append(("checkpoints", ", ".join(map(str, ours)), difference))
    for step in [step for step in ours if step in theirs]:
        count, size, difference = recording.compare_states(whole, other, step)
        extent = f"{count} leaves, {size:,} bytes"
        rows.append((f"state of step {step}", extent, difference))
    count, difference = recording.compare_metrics(whole, other)
    rows.append(("metrics", f"{count} records", difference))
    return _show(pair, rows, len(killed))


def _show(pair: RunPair, rows: list[tuple[str, str, str | None]], kills: int) -> int:
    """Print what was compared, its extent, and whether it differs."""
    width = max(len(cell) for row in rows for cell in row[:2])
    for what, extent, difference in rows:
        verdict = "DIFFERS" if difference else "equal"
        pair.say(f"  {what:<20} {extent:<{width}} {verdict}")
    differences = [difference for _, _, difference in rows if difference]
    if differences:
        pair.say(f"first difference: {differences[0]}")
        return ExitCode.DIFFERENT
    pair.say(f"equal bit for bit after {kills} kills")
    return ExitCode.DONE
