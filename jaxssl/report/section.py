"""What a section of the page is made of, and what all sections share."""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from jaxssl.run.read import Run
from jaxssl.types import SHARE


class Inputs(NamedTuple):
    """What a page is made from.

    Attributes:
      run: the run that the page is about.
      others: further runs to stand beside it, by the name of their row.
      stored: rows that were measured elsewhere, see `jaxssl.report.stored.read`.
    """

    run: Run
    others: Mapping[str, Run]
    stored: Sequence[Mapping[str, Any]]


class Summary(NamedTuple):
    """The head of the page: what the run reached.

    Attributes:
      title: of the page.
      claim: one or two sentences.
      tiles: (number, unit, explanation) triples.
      lacks: what has not been measured.
      command: the command that measures it; "" if nothing is missing.
    """

    title: str
    claim: str
    tiles: Sequence[tuple[str, str, str]] = ()
    lacks: str = ""
    command: str = ""


class Section(NamedTuple):
    """One section of the page.

    Attributes:
      name: its anchor, and that of its template ``<name>.html``.
      title: its name in the contents.
      context: what the template shows.
      evaluations: names of the evaluations that it shows.
      groups: groups of the training log that it shows.
      summary: the head of the page that it offers; the first section's counts.
      template: where the template is not that of ``name``.
    """

    name: str
    title: str
    context: Mapping[str, Any]
    evaluations: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    summary: Summary | None = None
    template: str = ""


def command(run: Run, verb: str, *evals: str) -> str:
    """Return the command line that makes a missing piece of ``run``.

    Args:
      run: the run that lacks it.
      verb: "train", "evaluate" or "report".
      *evals: the evaluations that are missing; none for all.
    """
    parts = ["jaxssl", verb]
    if verb == "train":
        variant = f":{run.variant}" if run.variant else ""
        parts.append(f"--config={run.config_file or 'CONFIG'}{variant}")
    parts.append(f"--workdir={run.path}")
    return shlex.join([*parts, f"--evals={','.join(evals)}"] if evals else parts)


def shares(run: Run, name: str, *, random_init: bool = False) -> dict[str, float]:
    """Return the shares among the numbers of an evaluation, in [0, 1] by name.

    Args:
      run: the run.
      name: of the evaluation.
      random_init: take the untrained network's.

    Returns:
      Empty where the evaluation has not been run, or where it has other units.
    """
    evals = run.random_init if random_init else run.evals
    metrics = evals[name].metrics if name in evals else {}
    return {key: m.value for key, m in metrics.items() if m.unit == SHARE}
