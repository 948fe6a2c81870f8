"""Write a workdir's report: one HTML file that needs nothing else, not even a network.

The page is built from files alone; it never touches the model. It is a list of
sections: `jaxssl.report.sections` has one a kind of evaluation, and any other
evaluation is shown as a table and grids of its images.
"""

import functools
import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from jaxssl import atomic_write
from jaxssl.errors import UserError
from jaxssl.report import numbers
from jaxssl.report import stored as stored_results
from jaxssl.report.section import Inputs, Section, command
from jaxssl.report.sections import SECTIONS, curves, facts, generic
from jaxssl.run import read
from jaxssl.run.read import Run

FILE_NAME = "report.html"


def write(
    workdir: Path,
    *,
    baselines: Mapping[str, Path] = {},
    stored: Sequence[Path] = (),
) -> Path:
    """Write the report of a finished or partial workdir.

    An evaluation that the run's config has a section for, and that has not been run, is
    named with the command that runs it. Equal inputs give an equal file.

    Args:
      workdir: folder that ``jaxssl train`` and ``jaxssl evaluate`` wrote.
      baselines: row name to another workdir whose numbers are shown beside this one's
        ("supervised", "SGD").
      stored: JSON results measured elsewhere, shown as such (`stored.read` tells the
        form).

    Returns:
      Path of ``report.html`` in ``workdir``.

    Raises:
      UserError: a workdir is missing, has no ``config.json`` or cannot be written to;
        a stored result is missing or malformed.
    """
    run = read.read(workdir)
    others = {name: read.read(path) for name, path in baselines.items()}
    inputs = Inputs(run, others, stored_results.read(stored))
    sections = list(_make_sections(inputs))
    target = workdir / FILE_NAME
    try:
        atomic_write.write(target, _render(run, sections).encode())
    except OSError as error:
        raise UserError(f"cannot write {target}: {error.strerror}.") from None
    return target


def _make_sections(inputs: Inputs) -> Iterator[Section]:
    """Yield what the page shows, in order."""
    run = inputs.run
    evaluations, groups = set(), set()
    for module in SECTIONS:
        section = module.make(inputs)
        missing = [
            name
            for name in module.EVALUATIONS
            if name not in run.evals and run.setting(f"eval.{name}") is not None
        ]
        if section is None and missing:
            name = module.__name__.rpartition(".")[2]
            context = {"title": module.TITLE, "evaluations": missing}
            section = Section(name, module.TITLE, context, template="missing.html")
        if section is not None:
            evaluations |= {*section.evaluations}
            groups |= {*section.groups}
            yield section
    for name in run.evals:
        if name not in evaluations:
            yield generic.make(run, name, inputs.others)
    yield curves.make(run, leave_out=groups)
    yield facts.make(inputs)


def _render(run: Run, sections: Sequence[Section]) -> str:
    folder = Path(__file__).parent
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([folder, folder / "sections"]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": _percent, "signed": numbers.signed}
    environment.filters |= {"metric": numbers.metric, "number": numbers.number}
    environment.globals["command"] = functools.partial(command, run)
    environment.globals["figure_number"] = itertools.count(1).__next__
    environment.globals["table_number"] = itertools.count(1).__next__
    bodies = [
        Markup(
            environment.get_template(s.template or f"{s.name}.html").render(s.context)
        )
        for s in sections
    ]
    offered = (section.summary for section in sections if section.summary)
    context: dict[str, Any] = {
        "title": run.path.resolve().name,
        "sections": list(zip(sections, bodies, strict=True)),
        "changed": {s.name: _list_changes(run, s.evaluations) for s in sections},
        "summary": next(offered, None) or generic.summarize(run),
    }
    return environment.get_template("template.html").render(context)


def _list_changes(run: Run, evaluations: Sequence[str]) -> dict[str, str]:
    """Return, by evaluation, the settings that differ from the run's config."""
    owners = {"": run.evals, " of random init": run.random_init}
    return {
        f"{name}{owner}": " ".join(evals[name].changed)
        for name in evaluations
        for owner, evals in owners.items()
        if name in evals and evals[name].changed
    }


def _percent(value: float | None) -> str:
    """Write a share in [0, 1] as ``61.5``; nothing as a dash."""
    return "\N{EN DASH}" if value is None else f"{100.0 * value:.1f}"
