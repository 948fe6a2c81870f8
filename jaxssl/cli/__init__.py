"""Train, evaluate and check self-supervised networks from the command line.

usage: jaxssl VERB [flags]

  train       train a config, or resume the run in its workdir
  evaluate    run the evaluations of a config on the newest checkpoint
  report      write one offline HTML page about a run
  data        list, prepare or check data sets
  checkpoint  list or verify the checkpoints of a run
  verify      show that a run depends neither on interruptions nor on its devices
  aot         compile the training step for TPUs or GPUs that are not here
  supervise   run a training command, and start it again after a fault that may pass

jaxssl VERB --help lists the flags of a verb. The shortest start:

  jaxssl train --config=configs/transformations_fashion_on_photos.py --workdir=runs/demo

An expected error is one line on standard error and an exit code: docs/exit_codes.md.
"""

import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path

try:
    import absl.logging
    from absl import flags

    import jaxssl
    from jaxssl import trees
    from jaxssl.checkpoint import disk_errors
    from jaxssl.cli import (
        aot,
        checkpoint,
        data,
        evaluate,
        output,
        report,
        supervise,
        train,
        verify,
    )
    from jaxssl.cli.verb import Flag, Verb, define, is_override
    from jaxssl.config import checks
    from jaxssl.distributed import coordination
    from jaxssl.errors import ExitCode, ExpectedError, UserError
    from jaxssl.run import config_file
    from jaxssl.text import printable
except ModuleNotFoundError as error:
    if str(error.name).startswith("jaxssl"):
        raise
    sys.exit(f"jaxssl: {error.name} is missing; run: pip install 'jaxssl[train]'")

VERBS = {
    "train": train.VERB,
    "evaluate": evaluate.VERB,
    "report": report.VERB,
    "data": data.VERB,
    "checkpoint": checkpoint.VERB,
    "verify": verify.VERB,
    "aot": aot.VERB,
    "supervise": supervise.VERB,
}

# Flags of every verb.
HELP = Flag("help", bool, False, "show this text")
TRACEBACK = Flag("traceback", bool, False, "print the traceback of an error")

# Flags whose value is a path, and what the path leads to; "" is either.
PATHS = {"workdir": "folder", "config": "file", "data_dir": "", "json": "file"}


def main(
    argv: Sequence[str] | None = None, *, verbs: Mapping[str, Verb] | None = None
) -> int:
    """Run one command.

    Args:
      argv: the words after ``jaxssl``; by default those of the process.
      verbs: the allowed verbs by name; `VERBS` by default.

    Returns:
      The exit code.
    """
    argv = sys.argv[1:] if argv is None else argv
    output.keep_open()
    # Orbax logs a traceback for each thread that a failed write passes through; the one
    # line of this command would be hard to find among them.
    level = absl.logging.ERROR if "--traceback" in argv else absl.logging.FATAL
    absl.logging.set_verbosity(level)
    code = ExitCode.BUG
    try:
        code = _run(argv, VERBS if verbs is None else verbs)
    finally:
        if sys.exc_info()[0] is not None and coordination.is_joined():
            traceback.print_exc()
        coordination.leave(code)
    return code


def _run(argv: Sequence[str], verbs: Mapping[str, Verb]) -> int:
    """Run one command; an expected error becomes one line and an exit code."""
    try:
        return _dispatch(argv, verbs)
    except ExpectedError as error:
        if "--traceback" in argv and isinstance(error, UserError):
            raise
        return _fail(error, error.exit_code)
    except KeyboardInterrupt:
        return _fail("interrupted", ExitCode.INTERRUPTED)


def _fail(message: object, code: int) -> int:
    line = printable(" ".join(str(message).split()))
    print(f"jaxssl: {line}", file=sys.stderr)
    return code


def _dispatch(argv: Sequence[str], verbs: Mapping[str, Verb]) -> int:
    if not argv or argv[0] in ("help", "--help", "-h"):
        print(__doc__)
        return 0
    if argv[0] == "--version":
        print(jaxssl.__version__)
        return 0
    checks.choice("the verb", argv[0], verbs)
    verb = verbs[argv[0]]
    values = flags.FlagValues()
    for flag in (HELP, TRACEBACK, *verb.flags):
        define(values, flag)
    values.set_gnu_getopt(True)
    own, command = [*argv[1:]], []
    if argv[0] == "supervise":
        own, command = _split(own)
    try:
        rest = values(["jaxssl", *own], known_only=True)[1:]
    except flags.Error as error:
        raise UserError(str(error)) from error
    if values["help"].value:
        _show_help(verb, values)
        return 0
    for word in rest:
        if word.startswith("-") and not ("config" in values and is_override(word)):
            name = word.lstrip("-").partition("=")[0]
            known = ", ".join(f"--{known}" for known in values)
            raise UserError(
                f"--{name} is not a flag of {argv[0]}; it has: {known}."
                + checks.nearest(name, values)
            )
    for name in PATHS:
        if name in values and (path := values[name].value):
            _check_path(name, path)
    return verb.run(values, rest + command)


def _check_path(flag: str, value: str) -> None:
    """Check that the path of a flag is possible, and is a file or folder as it must be.

    Raises:
      UserError: the path is impossible, or a file instead of a folder or the reverse.
      StorageError: the disk does not answer.
    """
    checks.local_path(f"--{flag}", value)
    path, kind = Path(value), PATHS[flag]
    try:
        with disk_errors.watch(path):
            wrong = kind and path.exists() and path.is_dir() != (kind == "folder")
    except OSError as error:
        raise UserError(f"--{flag}: {value}: {error.strerror}.") from error
    if wrong:
        actual = "file" if kind == "folder" else "folder"
        raise UserError(f"--{flag}: {value} is a {actual}; give a {kind}.")


def _split(words: list[str]) -> tuple[list[str], list[str]]:
    """Return the words before ``--``, and the command after it."""
    at = words.index("--") if "--" in words else len(words)
    return words[:at], words[at + 1 :]


def _show_help(verb: Verb, values: flags.FlagValues) -> None:
    print(f"usage: jaxssl {verb.usage}\n\n{verb.about}\nflags:")
    for name in values:
        flag = values[name]
        shown = f"--[no]{name}" if flag.boolean and flag.default else f"--{name}"
        default = f" (default: {flag.default})" if flag.default else ""
        print(f"  {shown:<20} {flag.help}{default}")
    if "config" in values and values["config"].value:
        recipe = config_file.load(values["config"].value)
        print(f"\nsettings of {recipe.file.name}:")
        for name, value in trees.flatten(recipe.config.to_dict()).items():
            print(f"  --config.{name}={value}")
