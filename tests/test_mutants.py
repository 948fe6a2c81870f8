"""Remove a guard from a copy of the code, and check that a test of the suite fails."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent
PARTS = ("jaxssl", "tests", "tools", "configs", "docs", "experiments", "pyproject.toml")


class Mutant(NamedTuple):
    """A guard that is removed.

    Attributes:
      file: the file with the guard, below ``jaxssl``.
      guard: the code of the guard, which occurs once in the file.
      without: the code that replaces it.
      test: the test that must fail without the guard.
    """

    file: str
    guard: str
    without: str
    test: str


MUTANTS = {
    "bytes are not compared": Mutant(
        "checkpoint/manifest.py",
        "if description != expected[name]:",
        "if False:",
        "tests/checkpoint/test_checkpoint_store.py::test_every_flipped_bit_is_found",
    ),
    "the manifest is not checked itself": Mutant(
        "checkpoint/manifest.py",
        'if body.pop("sha256", None) != _digest(body):',
        'if body.pop("sha256", None) is None:',
        "tests/checkpoint/test_checkpoint_store.py::test_a_manifest_with_other_words",
    ),
    "damaged checkpoints stay where they are": Mutant(
        "checkpoint/store.py",
        "safe_files.set_aside(workdir / FOLDER / x).name for x, _ in damage",
        "x for x, _ in damage",
        "tests/checkpoint/test_checkpoint_store.py::test_damaged_checkpoints_are_set_aside",
    ),
    "a save under way is not marked": Mutant(
        "checkpoint/store.py",
        "atomic_write.write(store.folder / SAVING, str(step).encode())",
        "(store.folder / SAVING).touch()",
        "tests/checkpoint/test_checkpoint_store.py::test_a_save_under_way_is_known_by_its_step",
    ),
    "other settings go on": Mutant(
        "run/workdir.py",
        "if changes.refused:",
        "if False:",
        "tests/run/test_workdir.py::test_another_config_is_refused",
    ),
    "another dtype is cast": Mutant(
        "checkpoint/store.py",
        "if stored.get(path) != wanted.get(path):",
        "if stored.get(path, [0, 0])[1] != wanted.get(path, [0, 0])[1]:",
        "tests/checkpoint/test_checkpoint_store.py::test_another_architecture_is_named",
    ),
    "a step without numbers counts": Mutant(
        "train/step.py",
        "jnp.where(skip, old, now)",
        "jnp.where(skip, now, now)",
        "tests/train/test_train_guard.py::test_bad_steps_leave_no_trace_but_a_count",
    ),
    "a run that goes on forgets its meter": Mutant(
        "train/loop.py",
        "_begin_meter(workdir, first, program.empty, say)",
        "program.empty",
        "tests/train/test_train_loop.py::test_records_miss_no_step_where_a_run_goes_on",
    ),
    "bad steps never stop the run": Mutant(
        "train/metric_sums.py",
        "(streak >= MAX_SKIPS)",
        "(streak >= 10**6)",
        "tests/train/test_train_guard.py::test_three_in_a_row_stop_before_a_save",
    ),
    "states without numbers are saved": Mutant(
        "train/hooks.py",
        "if not is_finite(state):",
        "if False:",
        "tests/train/test_train_guard.py::test_a_first_state_without_numbers_is_never_saved",
    ),
    "two trainers share a folder": Mutant(
        "run/lock.py",
        "fcntl.LOCK_EX",
        "fcntl.LOCK_SH",
        "tests/run/test_workdir.py::test_two_trainers_cannot_share_a_folder",
    ),
    "records of repeated steps stay": Mutant(
        "run/metrics.py",
        'record["step"] <= last_step',
        'record["step"] <= 2**62',
        "tests/run/test_metrics.py::test_records_after_a_step_are_cut_off",
    ),
    "the data begin anew after a restart": Mutant(
        "data/pipeline.py",
        "step = start_step + index",
        "step = index",
        "tests/data/test_pipeline.py::test_starting_at_any_step",
    ),
    "every host reads the same rows": Mutant(
        "data/pipeline.py",
        "own = slice(process_index * share, (process_index + 1) * share)",
        "own = slice(0, share)",
        "tests/data/test_pipeline.py::test_hosts_share_each_epoch_exactly_once",
    ),
    "nobody watches": Mutant(
        "distributed/watchdog.py",
        "if dog.idle > dog.limit():",
        "if False:",
        "tests/distributed/test_watchdog.py::test_a_stuck_read_ends_the_run",
    ),
    "waiting for an evaluation counts as a step": Mutant(
        "distributed/watchdog.py",
        "dog.idle = 0.0",
        "dog.idle = 0.5 * dog.limit()",
        "tests/distributed/test_watchdog.py::test_the_limit_begins_when_nobody_takes_long",
    ),
    "processes with other settings train": Mutant(
        "distributed/coordination.py",
        "if first.get(name) != other.get(name)",
        "if False",
        "tests/distributed/test_coordination.py::test_settings_that_differ_are_named_with_the_process",
    ),
    "each process stops where it hears of a signal": Mutant(
        "distributed/preemption.py",
        'coordination.gather("stop", self.asked, max) + 1',
        "self.asked + 1",
        "tests/distributed/test_coordination.py::test_all_stop_at_the_question_after_the_furthest",
    ),
    "workers outlive their trainer": Mutant(
        "data/pipeline.py",
        "while os.getppid() == parent:",
        "while True:",
        "tests/data/test_workers.py::test_workers_end_with_a_reader_that_is_killed",
    ),
    "a lost process is any error": Mutant(
        "distributed/peers.py",
        "_may_be_from_jax(error) and LOST.search(str(error))",
        "False",
        "tests/distributed/test_coordination.py::test_words_of_jax_that_mean_a_lost_process",
    ),
    "a disk that is gone is a lost process": Mutant(
        "distributed/peers.py",
        "errors.find_errno(error) is not None",
        "False",
        "tests/distributed/test_coordination.py::test_other_errors_stay",
    ),
    "one goes on where another cannot": Mutant(
        "distributed/coordination.py",
        "lambda messages: next(filter(None, messages), None)",
        "lambda messages: None",
        "tests/distributed/test_coordination.py::test_none_goes_on_where_one_cannot",
    ),
    "a run that ends has no time for its save": Mutant(
        "train/loop.py",
        'stack.callback(dog.note, "waiting for the save in flight", long=True)',
        "pass",
        "tests/train/test_train_guard.py::test_a_run_that_ends_has_time",
    ),
    "a save under way is listed as a step": Mutant(
        "checkpoint/store.py",
        "unfinished = find_unfinished(workdir)",
        "unfinished = None",
        "tests/checkpoint/test_checkpoint_store.py::test_a_save_that_begins_while",
    ),
    "evaluations count as steps for the watchdog": Mutant(
        "distributed/watchdog.py",
        "self._began += now - self._noted",
        "pass",
        "tests/distributed/test_watchdog.py::test_what_is_long_on_purpose_is_no_part_of_a_step",
    ),
    "supervise sees no progress": Mutant(
        "cli/supervise.py",
        "tries = 0 if newest() > start else tries + 1",
        "tries += 1",
        "tests/cli/test_cli_supervise.py::test_codes_that_are_started_again",
    ),
}


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """The project as it is in this checkout, to be spoiled."""
    root = tmp_path_factory.mktemp("copy")
    skip = shutil.ignore_patterns("__pycache__", "*.png", "ledger", "assets_build")
    for part in PARTS:
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, root / part, ignore=skip)
        else:
            shutil.copy(ROOT / part, root)
    return root


def _run(root, tests):
    """Run tests of the copy in a process of their own; return the exit code."""
    files = sorted({test.partition("::")[0] for test in tests})
    names = " or ".join(sorted({test.partition("::")[2] for test in tests}))
    command = [sys.executable, "-m", "pytest", "-x", "-n0", *files, "-k", names]
    done = subprocess.run(
        [*command, "-p", "no:cacheprovider"],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout


@pytest.mark.slow
def test_the_copy_passes_as_it_is(copy):
    code, output = _run(copy, [mutant.test for mutant in MUTANTS.values()])
    assert code == 0, output


@pytest.mark.slow
@pytest.mark.parametrize("name", MUTANTS)
def test_a_guard_that_is_gone_is_missed(copy, name, faults):
    mutant = MUTANTS[name]
    path = copy / "jaxssl" / mutant.file
    text = path.read_text()
    assert text.count(mutant.guard) == 1
    try:
        path.write_text(text.replace(mutant.guard, mutant.without))
        code, output = _run(copy, [mutant.test])
    finally:
        path.write_text(text)
    assert code == 1, output
    faults.record("F20", injected=1, survived=1)


def test_every_guard_is_where_the_list_says():
    """A quick test: who changes such a line has to change the list, too."""
    for name, mutant in MUTANTS.items():
        text = (ROOT / "jaxssl" / mutant.file).read_text()
        assert text.count(mutant.guard) == 1, name
        file, _, function = mutant.test.partition("::")
        assert f"def {function}" in (ROOT / file).read_text(), name
