"""Write a workdir's report: one HTML file that needs nothing else, not even a network.

The page is built from files alone; it never touches the model. It is a list of
sections: `jaxssl.report.sections` has one a kind of evaluation, and any other
evaluation is shown as a table and grids of its images.
"""

import functools
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
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
from jaxssl.text import first_line

FILE_NAME = "report.html"

# What making a section raises where the files of a run do not fit each other: one of
# them was damaged or written by hand, and holds other shapes, types or names.
MISFITS = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)

_Maker = Callable[[], Section | None]


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
    target = workdir / FILE_NAME
    page = _render(inputs)
    try:
        atomic_write.write(target, page.encode(errors="backslashreplace"))
    except OSError as error:
        raise UserError(f"cannot write {target}: {error.strerror}.") from None
    return target


def _make_sections(inputs: Inputs) -> Iterator[tuple[str, _Maker]]:
    """Yield the title and the maker of what the page may show, in order.

    A maker is called before the next one is asked for.
    """
    run = inputs.run
    evaluations, groups = set(), set()

    def note(section: Section | None) -> Section | None:
        if section is not None:
            evaluations.update(section.evaluations)
            groups.update(section.groups)
        return section

    for module in SECTIONS:
        yield module.TITLE, lambda module=module: note(_make_section(module, inputs))
    for name in run.evals:
        if name not in evaluations:
            yield name, functools.partial(generic.make, run, name, inputs.others)
    yield "Training", lambda: curves.make(run, leave_out=groups)
    yield "What was run", lambda: facts.make(inputs)


def _make_section(module: Any, inputs: Inputs) -> Section | None:
    """Make a section, or name the evaluations that it lacks."""
    run = inputs.run
    section = module.make(inputs)
    missing = [
        name
        for name in module.EVALUATIONS
        if name not in run.evals and run.setting(f"eval.{name}") is not None
    ]
    if section is not None or not missing:
        return section
    name = module.__name__.rpartition(".")[2]
    context = {"title": module.TITLE, "evaluations": missing}
    return Section(name, module.TITLE, context, template="missing.html")


def _render(inputs: Inputs) -> str:
    run, environment = inputs.run, _make_environment(inputs.run)
    shown: list[tuple[Section, Markup]] = []
    unfit = []
    for title, make in _make_sections(inputs):
        try:
            if section := make():
                template = environment.get_template(
                    section.template or f"{section.name}.html"
                )
                shown.append((section, Markup(template.render(section.context))))
        except MISFITS as error:
            unfit.append(f"{title} ({type(error).__name__}: {first_line(error)})")
    summary = next((s.summary for s, _ in shown if s.summary), None)
    context: dict[str, Any] = {
        "title": run.path.resolve().name,
        "sections": shown,
        "changed": {s.name: _list_changes(run, s.evaluations) for s, _ in shown},
        "summary": summary or generic.summarize(run),
        "unfit": unfit,
    }
    return environment.get_template("template.html").render(context)


def _make_environment(run: Run) -> jinja2.Environment:
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
    return environment


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
