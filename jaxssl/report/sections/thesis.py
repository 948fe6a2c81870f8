"""Linear classifiers beside Table 4.2 of the thesis, for runs of chapter 4."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from jaxssl.report import thesis
from jaxssl.report.section import Inputs, Section, shares
from jaxssl.report.sections import pretext
from jaxssl.run import read
from jaxssl.run.read import Run

TITLE = "Beside the thesis"
EVALUATIONS = ()

_COMMAND = "jaxssl train --config=configs/transformations_stl10.py --workdir=DIR"


def make(inputs: Inputs) -> Section | None:
    """Put what was run on STL-10 beside Table 4.2; all else there is "not run".

    The table belongs to runs that recognise transformations, and to classifiers on
    STL-10. Runs of the thesis' own protocol (``configs/probe_stl10.py``) count before
    the cached probe; their row is that of the run whose features they read.
    """
    run, others, _ = inputs
    classes = pretext.classes(run)
    if not classes and not any(numbers for _, numbers, _ in _rows(run)):
        return None
    offered = [row for one in (*others.values(), run) for row in _rows(one) if row[1]]
    # The last one counts, so the thesis' own protocol stands behind the cached probe.
    offered.sort(key=lambda row: row[2] == thesis.PROTOCOL)
    measured = {
        name: thesis.Measured(numbers, protocol) for name, numbers, protocol in offered
    }
    context = {
        "rows": thesis.rows(measured),
        "layers": thesis.LAYERS,
        "tolerance": thesis.TOLERANCE,
        "same_data": _is_stl10(run),
        "our_row": thesis.row_name(classes),
        "command": _COMMAND,
    }
    return Section("thesis", TITLE, context)


def _rows(run: Run) -> Iterator[tuple[str, Mapping[str, float], str]]:
    """Yield (row, accuracies, protocol) of a run on STL-10."""
    if not _is_stl10(run):
        return
    probe = shares(run, "linear_probe")
    random = shares(run, "linear_probe", random_init=True)
    yield thesis.row_name(pretext.classes(run)), probe, thesis.CACHED
    yield "Random", random, thesis.CACHED
    classifiers = shares(run, "linear_classifiers")
    if classifiers:
        yield _probed_row(run), classifiers, thesis.PROTOCOL


def _probed_row(run: Run) -> str:
    """Name the row whose features a run of the thesis' protocol reads, if known."""
    source = run.setting("init_from.classifier")
    if source == "random":
        return "Random"
    if not source or not (Path(source) / "config.json").exists():
        return ""
    return thesis.row_name(pretext.classes(read.read(Path(source))))


def _is_stl10(run: Run) -> bool:
    """Whether the data set is STL-10, by its name or that of <method>_<data>.py."""
    data = run.setting("data")
    name = run.setting("data.name") if isinstance(data, Mapping) else data
    name = str(name or Path(run.config_file).stem)
    return "stl10" in name.lower().replace("-", "").replace("_", "")
