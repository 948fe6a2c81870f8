"""What the page says about the run itself: claim, facts, configuration, curves."""

import json
import shlex
from collections.abc import Container, Iterator, Mapping
from typing import Any

import numpy as np

from jaxssl.report import figures
from jaxssl.report.inputs import Run, Series, command, layers, natural

NBSP = "\N{NO-BREAK SPACE}"
_PER_PANEL = 8
_ELSEWHERE = ("command", "config", "config_file", "host")
_TOLD = (
    "A loss that falls while the accuracy rises says that the task can be learned; it "
    "does not yet say that the features are good, which is what the probes below "
    "measure."
)
_TITLES = {
    "loss": ("Losses", "Lower is better; the players of a joint game need not fall."),
    "acc": (
        "Accuracy on training batches",
        "How often the network names the class that the batch gives.",
    ),
    "probe": (
        "Quick probe during training",
        "Held-out accuracy of a classifier that has a few labels of each class only.",
    ),
    "images_per_second": ("Throughput", "Images a second, views not counted twice."),
    "input_wait_share": (
        "Share of time spent waiting for input",
        "Near zero: the loader keeps up with the step.",
    ),
}


def summary(run: Run) -> dict[str, Any]:
    """Say in one sentence what was learned, with the numbers behind it.

    Args:
      run: the run; where a number is missing the sentence says so.

    Returns:
      ``title`` and ``claim`` (texts), ``missing`` (a command or "") with ``lacks``,
      what it makes, and ``tiles``: (number, unit, explanation) triples.
    """
    probe, base = _probe(run.evals), _probe(run.random_init)
    deep = [layer for layer in probe if layer in base][-2:] or list(probe)[-2:]
    tiles = []
    for layer in deep:
        if layer in base:
            gain = signed(100.0 * (probe[layer] - base[layer]))
            told = f"{layer} probe, over the same net untrained"
            tiles.append((gain, "points", told))
    pretext = run.evals.get("pretext")
    if pretext and "accuracy" in pretext.scalars:
        chance = f", chance {100.0 / kinds(run):.0f}{NBSP}%" if kinds(run) else ""
        told = f"transformations recognised{chance}"
        tiles.append((f"{100.0 * pretext.scalars['accuracy']:.1f}", "%", told))
    missing = "" if probe and base else command(run, "evaluate")
    return {
        "title": "What the network learned",
        "claim": _claim(run, probe, base, deep),
        "missing": missing,
        "lacks": "The comparison with the untrained network",
        "tiles": tiles,
    }


def signed(points: float) -> str:
    """Write a difference with its sign, ``+18.7``."""
    return f"{points:+.1f}".replace("-", "\N{MINUS SIGN}")


def share(value: float) -> str:
    """Write a number in [0, 1] as ``61.5 %``, with a space that does not break."""
    return f"{100.0 * value:.1f}{NBSP}%"


def kinds(run: Run) -> int:
    """Count the pretext classes; 0 if no pretext evaluation tells."""
    pretext = run.evals.get("pretext")
    if pretext is None:
        return 0
    names = pretext.arrays.get("names", pretext.arrays.get("confusion"))
    return 0 if names is None else len(names)


def facts(run: Run) -> dict[str, Any]:
    """Gather what was run, on what, and the command that repeats it."""
    words = run.info.get("command")
    if isinstance(words, list) and words:
        again = shlex.join(str(word) for word in words)
    else:
        again = str(words) if words else command(run, "train")
    variant = f", variant {run.variant}" if run.variant else ""
    rows = [("Config", (run.config_file or "unknown") + variant)]
    rows += _settings(run) + _durations(run)
    for key, value in run.info.items():
        if key == "earlier":
            rows += [("Restarts", str(len(value)))] if value else []
        elif key == "devices" and isinstance(value, dict):
            rows.append(("Hardware", _hardware(value)))
        elif key == "git" and isinstance(value, dict):
            edited = " with uncommitted changes" if value.get("dirty") else ""
            rows.append(("Source", f"git {str(value.get('commit'))[:12]}{edited}"))
        elif key not in _ELSEWHERE and value is not None:
            rows.append((key.replace("_", " ").capitalize(), plain(value)))
    return {
        "command": again,
        "processes": _num_processes(run),
        "rows": rows,
        "missing": "" if run.info else command(run, "train"),
        "config": list(flat(run.config)),
    }


def _num_processes(run: Run) -> int:
    devices = run.info.get("devices")
    found = devices.get("processes", 1) if isinstance(devices, dict) else 1
    return found if isinstance(found, int) else 1


def _hardware(devices: Mapping[str, Any]) -> str:
    known = {"kind", "platform", "count", "cpus"}
    if not known <= set(devices):
        return plain(devices)
    kind, platform = str(devices["kind"]), str(devices["platform"])
    on = kind if kind == platform else f"{kind} ({platform})"
    times = "\N{MULTIPLICATION SIGN}"
    return f"{devices['count']} {times} {on}; {devices['cpus']} CPU cores on the host"


def _settings(run: Run) -> list[tuple[str, str]]:
    """Pick the settings that a reader asks for first."""
    wanted = {"data.name": "Data set", "seed": "Seed", "train.batch_size": "Batch size"}
    settings = dict(flat(run.config))
    rows = [(label, settings[key]) for key, label in wanted.items() if key in settings]
    if run.metrics:
        last = max(int(series.steps[-1]) for series in run.metrics.values())
        total = settings.get("train.num_steps", "")
        of = f" of {int(total):,}" if total.isdigit() else ""
        unfinished = ", unfinished" if total.isdigit() and last < int(total) else ""
        rows.append(("Steps", f"{last:,}{of}{unfinished}"))
    return rows


def _durations(run: Run) -> list[tuple[str, str]]:
    rows = []
    speed = run.metrics.get("speed/images_per_second")
    train = run.config.get("train")
    batch = train.get("batch_size") if isinstance(train, Mapping) else None
    if speed and isinstance(batch, int) and (speed.values > 0).all():
        intervals = np.diff(speed.steps, prepend=0)
        seconds = float((intervals * batch / speed.values).sum())
        rows.append(("Time in training steps", _seconds(seconds)))
    spent = [e.seconds for e in run.evals.values() if e.seconds is not None]
    if spent:
        rows.append(("Time in evaluations", _seconds(sum(spent))))
    return rows


def _seconds(seconds: float) -> str:
    whole = round(seconds)
    if whole < 120:
        return f"{whole} s"
    if whole < 7200:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def plain(value: Any) -> str:
    """Write a JSON value for a reader: ``jax 0.10.2, numpy 2.4``."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {plain(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(plain(item) for item in value)
    if isinstance(value, str):
        return value
    return json.dumps(value)


def flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield ``("optim.lr", "0.003")`` for each setting, as ``--config.`` takes it."""
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{prefix}{key}.")
        else:
            text = value if isinstance(value, str) else json.dumps(value)
            yield f"{prefix}{key}", text


def curves(
    run: Run, *, leave_out: Container[str] = (), told: str = _TOLD
) -> dict[str, Any]:
    """Draw the logged metrics, one panel a group (``loss/...``, ``acc/...``).

    Args:
      run: whose metrics.
      leave_out: groups that another section shows.
      told: what the caption says of them.

    Returns:
      What the template shows.
    """
    panels = []
    for group, series in _groups(run.metrics).items():
        names = [] if group in leave_out else sorted(series, key=natural)
        for start in range(0, len(names), _PER_PANEL):
            part = {name: series[name] for name in names[start : start + _PER_PANEL]}
            panels.append(_panel(group, part, len(panels)))
    thinned = any(len(series.steps) > 300 for series in run.metrics.values())
    missing = "" if panels else command(run, "train")
    return {"panels": panels, "thinned": thinned, "missing": missing, "told": told}


def _panel(group: str, series: Mapping[str, Series], index: int) -> dict[str, Any]:
    title, told = _TITLES.get(group, (group.replace("_", " ").capitalize(), ""))
    unit = _unit(group, series)
    if group == "loss" and len(series) == 1:
        title, told = "Loss", "Lower is better."
    if group == "input_wait_share":
        mean = float(np.mean([np.mean(s.values) for s in series.values()]))
        told += f" Mean {share(mean)}."
    if group == "images_per_second":
        middle = np.median(np.concatenate([s.values for s in series.values()]))
        told += f" Median {middle:,.0f}."
    top = {"images_per_second": 0.0, "input_wait_share": 5.0}.get(group)
    name = f"curve{index}"
    alone = set(series) == {group}
    return panel(title, told, series, unit=unit, name=name, top=top, alone=alone)


def panel(
    title: str,
    told: str,
    series: Mapping[str, Series],
    *,
    unit: str,
    name: str,
    top: float | None = None,
    alone: bool = False,
) -> dict[str, Any]:
    """Draw one panel.

    Args:
      title: above it.
      told: below it, before the last values.
      series: its lines by name.
      unit: see `figures.training`, also for ``name`` and ``top``.
      name: see there.
      top: see there.
      alone: whether the title says already what the only line is.

    Returns:
      What the template shows.
    """
    last = [
        number(s.values[-1], unit) if alone else f"{key} {number(s.values[-1], unit)}"
        for key, s in series.items()
    ]
    drawing = figures.training(series, unit=unit, name=name, top=top)
    return {"title": title, "told": told, "last": ", ".join(last), "svg": drawing}


def _unit(group: str, series: Mapping[str, Series]) -> str:
    if group == "images_per_second":
        return "images/s"
    if group == "loss" or "loss" in group:
        return "nats" if set(series) == {"classifier"} else "loss"
    values = np.concatenate([s.values for s in series.values()])
    finite = values[np.isfinite(values)]
    shares = len(finite) and finite.min() >= 0.0 and finite.max() <= 1.0
    return "%" if shares and group != "lr" else ""


def number(value: float, unit: str) -> str:
    """Write a value as a curve's unit asks, three digits or more."""
    if unit == "%":
        return share(value)
    return f"{value:,.0f}" if abs(value) >= 100.0 else f"{value:#.3g}".rstrip(".")


def _groups(metrics: Mapping[str, Series]) -> dict[str, dict[str, Series]]:
    """Group by the word before the slash; each of ``speed/`` stands alone.

    ``x_sd``, the spread of ``x``, is no result of its own and left out.
    """
    groups: dict[str, dict[str, Series]] = {}
    for name, series in metrics.items():
        group, _, rest = name.rpartition("/")
        # The duration is among the facts; bad records are drawn where there are any.
        if rest == "elapsed_seconds" or (group == "data" and not any(series.values)):
            continue
        if name.endswith("_sd") and name[:-3] in metrics:
            continue
        if not group or group == "speed":
            group, rest = rest, rest
        groups.setdefault(group, {})[rest] = series
    order = {"loss": 0, "acc": 1, "images_per_second": 98, "input_wait_share": 99}
    return dict(sorted(groups.items(), key=lambda item: order.get(item[0], 50)))


def _probe(evals: Mapping[str, Any]) -> dict[str, float]:
    return layers(evals["linear_probe"].scalars) if "linear_probe" in evals else {}


def _claim(
    run: Run,
    probe: Mapping[str, float],
    base: Mapping[str, float],
    deep: list[str],
) -> str:
    if not probe:
        return "What this run learned has not been measured yet."
    right = _join([f"{share(probe[layer])} ({layer})" for layer in deep])
    said = f"{_how(run)} a linear probe gets {right} of held-out images right"
    if not all(layer in base for layer in deep):
        return f"{said}; the untrained network has not been measured beside it yet."
    gains = [100.0 * (probe[layer] - base[layer]) for layer in deep]
    words = [f"{abs(gain):.1f} {'above' if gain >= 0 else 'below'}" for gain in gains]
    if len({gain >= 0 for gain in gains}) == 1:  # "18.7 and 20.9 above"
        words[:-1] = [word.split()[0] for word in words[:-1]]
    words[-1] = words[-1].replace(" ", " points ")
    return f"{said}: {_join(words)} what the same network reaches untrained."


def _how(run: Run) -> str:
    """Begin the claim with the task, if there was one."""
    count, pretext = kinds(run), run.evals.get("pretext")
    if pretext is None or not count:
        return "From the features of the trained network"
    accuracy = pretext.scalars.get("accuracy")
    told = f" ({share(accuracy)} right)" if accuracy is not None else ""
    return (
        f"By learning to tell {count} image transformations apart{told}, without any "
        "label, the network found features from which"
    )


def _join(words: list[str]) -> str:
    return " and ".join(words)
