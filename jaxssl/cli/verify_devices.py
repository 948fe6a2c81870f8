"""``jaxssl verify devices``: the same step on one device and on many."""

import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import jax

from jaxssl.cli.codes import ExitCode
from jaxssl.cli.setup import set_up, use_compilation_cache
from jaxssl.train import agreement, recipe
from jaxssl.types import UserError

Found = tuple[int, str, dict[str, float]]
"""A step, the name of a mesh, and the differences from one device."""


def read_counts(words: Sequence[str], flag: str) -> list[int]:
    """Read numbers from a flag; 1 is the reference and needs no saying.

    Raises:
      UserError: a word is no number above 0.
    """
    for word in words:
        if not word.isdecimal() or int(word) < 1:
            raise UserError(f"--{flag} has {word!r}; give numbers, as in 1,2,4,8.")
    return sorted({int(word) for word in words} - {1})


def read_setting(spec: str, words: Sequence[str]) -> agreement.Setting:
    """Build what a config describes.

    Raises:
      UserError: it cannot be built.
    """
    setup = set_up(recipe.load(spec, words))
    return agreement.Setting(
        setup.experiment, setup.batches, setup.train.batch_size, setup.seed, setup.mesh
    )


def verify(
    spec: str,
    words: Sequence[str],
    *,
    devices: Sequence[int],
    steps: int,
    say: Callable[[str], object] = print,
) -> int:
    """Compare each step on one simulated device with those on more.

    Args:
      spec: ``FILE`` or ``FILE:variant``.
      words: overrides.
      devices: how many.
      steps: of training; each starts from the state that one device reached.
      say: takes one line for a person.

    Returns:
      The exit code: DONE, or DIFFERENT.

    Raises:
      UserError: the config cannot be read, or a mesh does not fit it.
    """
    recipe.load(spec, words)  # A wrong word is told before jax looks for devices.
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", max(devices, default=1))
    use_compilation_cache()
    setting = read_setting(spec, words)
    say(
        f"{steps} steps of {setting.batch_size} rows; largest relative differences "
        "from one device"
    )
    say(_line("", {group: group for group in agreement.TOLERANCES}))
    with tempfile.TemporaryDirectory(prefix="jaxssl-verify-") as scratch:
        beyond = _show(
            agreement.compare_devices(setting, devices, steps, Path(scratch)), say
        )
    allowed = {g: f"{value:.0e}" for g, value in agreement.TOLERANCES.items()}
    say(_line("tolerance", allowed))
    if beyond:
        say(f"first difference: {beyond[0]}")
        return ExitCode.DIFFERENT
    say("equal up to rounding")
    return ExitCode.DONE


def _show(found: Iterable[Found], say: Callable[[str], object]) -> list[str]:
    """Print a line for each mesh; return what is beyond the tolerances, in words."""
    worst: dict[str, dict[str, float]] = {}
    beyond = []
    for step, name, different in found:
        seen = worst.setdefault(name, dict(different))
        for group, value in different.items():
            seen[group] = max(seen[group], value)
            if value > agreement.TOLERANCES[group]:
                beyond.append(
                    f"step {step} on {name}: {group} differs by {value:.1e}, beyond "
                    f"{agreement.TOLERANCES[group]:.0e}"
                )
    for name, seen in worst.items():
        say(_line(name, {group: f"{value:.1e}" for group, value in seen.items()}))
    return beyond


def _line(name: str, cells: dict[str, str]) -> str:
    return f"{name:<14}" + "".join(f"{cell:>12}" for cell in cells.values())
