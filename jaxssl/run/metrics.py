"""What a run measures: ``metrics.jsonl``, TensorBoard, and lines for a person.

On a terminal a progress bar shows the state of the run; elsewhere each log step is one
plain line.
"""

import contextlib
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

from tensorboardX.record_writer import RecordWriter
from tqdm import tqdm

from jaxssl import atomic_write, safe_files
from jaxssl.distributed import coordination
from jaxssl.run import tensorboard
from jaxssl.text import format_seconds, natural_order, printable
from jaxssl.types import SHARE, Metric

JSONL = "metrics.jsonl"
UNITS = "metric_units.json"
BOARD = "tb"
QUIET = ("speed/", "data/", "weights/")
"""Groups that the line for a person leaves out, or shows in another form."""


@runtime_checkable
class Stream(Protocol):
    """What is needed of a text file: standard output has it, ``io.StringIO`` too."""

    def write(self, text: str, /) -> object: ...  # noqa: D102

    def flush(self) -> None: ...  # noqa: D102

    def isatty(self) -> bool: ...  # noqa: D102


class Writer(NamedTuple):
    """Where the metrics of a run go.

    Attributes:
      jsonl: one JSON object a line, appended; None where another process writes.
      board: TensorBoard's event file; None where another process writes.
      stream: lines for a person.
      bar: the progress bar; disabled where the stream is no terminal.
      total: number of steps of the run.
    """

    jsonl: Stream | None
    board: RecordWriter | None
    stream: Stream
    bar: tqdm
    total: int


class Pace(NamedTuple):
    """How fast the run went between two log steps.

    Attributes:
      steps: number of steps.
      seconds: time they took, without evaluations and saves.
      waited: time of it that passed in waiting for the next batch.
    """

    steps: int = 0
    seconds: float = 0.0
    waited: float = 0.0

    def add(self, *, seconds: float, waited: float) -> "Pace":
        """Count one more step."""
        return Pace(self.steps + 1, self.seconds + seconds, self.waited + waited)

    def extend(self, seconds: float) -> "Pace":
        """Add the time that the host waited for the device to finish the interval."""
        return self._replace(seconds=self.seconds + seconds)

    def scalars(self, batch_size: int) -> dict[str, float]:
        """Return images per second and the share of the time spent on input."""
        seconds = max(self.seconds, 1e-9)
        return {
            "speed/images_per_second": self.steps * batch_size / seconds,
            "speed/input_wait_share": self.waited / seconds,
        }


@contextlib.contextmanager
def open_writer(
    workdir: Path, *, first_step: int, total: int, stream: Stream
) -> Iterator[Writer]:
    """Open the logs of a run; records of steps that will be repeated are cut off.

    Args:
      workdir: the run's folder.
      first_step: the number of finished steps; -1 where there is nothing to go on from.
      total: the number of steps of the run.
      stream: where lines for a person go.

    Yields:
      The writer. In all processes but the first, the writer opens no file and shows
      lines for a person only.
    """
    if not coordination.is_first():
        yield Writer(None, None, stream, tqdm(disable=True), total)
        return
    path = workdir / JSONL
    if not path.exists():
        write_units(workdir, {})  # A log of version 0.1 has no such file beside it.
    if cut := repair(path, first_step):
        after = f"{path}: cut off what came after step {max(first_step, 0)}"
        tell(stream, f"{after} (records: {cut}).")
    progress = tqdm(
        total=total,
        initial=max(first_step, 0),
        file=stream,
        disable=not stream.isatty(),
        dynamic_ncols=True,
        smoothing=0.1,
        # Short, so that 80 columns hold the speed and a loss behind it.
        bar_format="|{bar:5}| {n_fmt}/{total_fmt} {remaining} left{postfix}",
    )
    with (
        progress as bar,
        path.open("a") as jsonl,
        tensorboard.open_board(workdir / BOARD, first_step=first_step + 1) as events,
    ):
        yield Writer(jsonl, events, stream, bar, total)


def repair(path: Path, last_step: int) -> int:
    """Drop records after ``last_step`` and lines that cannot be read.

    Args:
      path: a JSONL file; may be missing.
      last_step: the newest step whose records stay.

    Returns:
      How many lines were dropped.
    """
    try:
        lines = _read_lines(path)
    except FileNotFoundError:
        return 0
    kept = [line for line in lines if _is_kept(parse_record(line), last_step)]
    if len(kept) < len(lines):
        atomic_write.write(path, b"".join(kept))
    return len(lines) - len(kept)


def _is_kept(record: dict[str, Any] | None, last_step: int) -> bool:
    return record is not None and record["step"] <= last_step


def find_damage(path: Path) -> str | None:
    """Return a clause that says what is wrong with a log; None if it is whole.

    A crash cuts the last line short, which is no damage.
    """
    try:
        lines = _read_lines(path)
    except FileNotFoundError:
        return None
    except safe_files.UnreadableFile as error:
        return str(error)
    whole = [line for line in lines if line.endswith(b"\n")]
    bad = sum(parse_record(line) is None for line in whole)
    return f"has {bad} unreadable lines" if bad else None


def _read_lines(path: Path) -> list[bytes]:
    data = safe_files.read_bytes(path, safe_files.LOG_BYTES)
    return data.splitlines(keepends=True)


def parse_record(line: bytes) -> dict[str, Any] | None:
    """Return the record of a line; None if the line is cut short or damaged."""
    try:
        record = safe_files.parse_json(line)
    except safe_files.UnreadableFile:
        return None
    whole = line.endswith(b"\n") and isinstance(record, dict)
    return record if whole and safe_files.is_count(record.get("step")) else None


def read(workdir: Path) -> list[dict[str, Any]]:
    """Return the records of a run, oldest first; unreadable lines are left out."""
    return read_counted(workdir)[0]


def read_counted(workdir: Path) -> tuple[list[dict[str, Any]], int]:
    """Return the records of a run, oldest first, and the number of unreadable lines.

    Raises:
      OSError: the disk fails.
      UnreadableFile: the log is no regular file, or too large.
    """
    try:
        lines = _read_lines(workdir / JSONL)
    except FileNotFoundError:
        return [], 0
    records = [record for line in lines if (record := parse_record(line)) is not None]
    return records, len(lines) - len(records)


def write(writer: Writer, step: int, scalars: Mapping[str, float]) -> None:
    """Append one record; a value that is not finite is written as null."""
    if writer.jsonl is None or writer.board is None:
        return
    record = {k: v if math.isfinite(v) else None for k, v in scalars.items()}
    writer.jsonl.write(json.dumps({"step": step, **record}) + "\n")
    writer.jsonl.flush()
    tensorboard.write(writer.board, step, scalars)


def tell(stream: Stream, line: str) -> None:
    """Show one line to a person, above the progress bar if there is one."""
    line = printable(line)
    if stream.isatty():
        tqdm.write(line, file=stream)
    else:
        stream.write(line + "\n")
        stream.flush()


def say(writer: Writer, line: str) -> None:
    """Show one line where the others of a run go; see `tell`."""
    tell(writer.stream, line)


def advance(writer: Writer) -> None:
    """Move the progress bar by one step."""
    writer.bar.update()


def show(
    writer: Writer, step: int, scalars: Mapping[str, float], seconds_left: float
) -> None:
    """Show where the run is: in the progress bar, or as one line.

    Args:
      writer: where to.
      step: the number of finished steps.
      scalars: the metrics of the interval, with those of ``Pace.scalars``.
      seconds_left: the estimated time to the end.
    """
    groups = format_groups(
        {name: x for name, x in scalars.items() if not name.startswith(QUIET)}
    )
    speed = (
        f"{scalars['speed/images_per_second']:.0f} img/s  "
        f"input wait {100 * scalars['speed/input_wait_share']:.0f}%"
    )
    if scalars.get("data/bad_records"):
        speed += f"  {scalars['data/bad_records']:.0f} bad records"
    if not writer.bar.disable:
        # The end of a long line is cut at the terminal's edge.
        writer.bar.set_postfix_str(f"{speed}  {groups}", refresh=False)
    else:
        count = f"{step:>{len(str(writer.total))}}/{writer.total}"
        left = format_seconds(seconds_left)
        say(writer, f"step {count}  {groups}  {speed}  {left} left")


def format_groups(scalars: Mapping[str, float]) -> str:
    """Return ``group/thing`` metrics of a step in one line.

    Losses come first, and a group is named once. Metrics of the group ``acc`` are
    shares (`jaxssl.types.Metrics`), the others have no unit. Numbers in names are
    sorted by their value: ``rot90`` is before ``rot180``.
    """
    groups: dict[str, list[str]] = {}
    names = sorted(scalars, key=lambda n: (not n.startswith("loss/"), natural_order(n)))
    for name in names:
        group, _, thing = name.rpartition("/")
        value = scalars[name]
        shown = f"{100 * value:.1f}%" if group == "acc" else f"{value:.3f}"
        groups.setdefault(group, []).append(f"{thing} {shown}")
    return "  ".join(f"{group}: {', '.join(all_)}" for group, all_ in groups.items())


def format_metric(metric: Metric) -> str:
    """Return a value with its unit and its spread.

    A share is shown in percent with one decimal; any other value has four digits and
    its unit behind it. The unit is what the evaluation declares, never a guess.

    Args:
      metric: the value.

    Returns:
      ``25.0%``, ``25.0% ± 1.2%``, ``81.30 mm`` or ``81.30 ± 2.1 mm``.
    """
    if metric.unit == SHARE:
        spread = "" if metric.spread is None else f" ± {100 * metric.spread:.1f}%"
        return f"{100 * metric.value:.1f}%{spread}"
    spread = "" if metric.spread is None else f" ± {metric.spread:#.2g}"
    return f"{metric.value:#.4g}{spread} {metric.unit}".rstrip()


def format_metrics(metrics: Mapping[str, Metric]) -> str:
    """Return names and values in one line."""
    return "  ".join(f"{n} {format_metric(metric)}" for n, metric in metrics.items())


def write_units(workdir: Path, metrics: Mapping[str, Metric]) -> None:
    """Note the units of online evaluations in ``metric_units.json``.

    The file maps names of ``metrics.jsonl`` to units. The first of many processes
    writes it when a run begins, and then only when a name or a unit is new.

    Args:
      workdir: the run's folder.
      metrics: by their names in ``metrics.jsonl``.
    """
    if not coordination.is_first():
        return
    path = workdir / UNITS
    old = safe_files.read_json(path) if path.exists() else {}
    units = old | {name: metric.unit for name, metric in metrics.items()}
    if units != old or not path.exists():
        atomic_write.write(path, (json.dumps(units, indent=2) + "\n").encode())
