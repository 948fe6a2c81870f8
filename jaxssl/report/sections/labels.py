"""What a run of chapter 8 learned from its labels, perhaps wrong, and what by heart.

The section tells the last epoch *and* the best one: nobody should take a stop at the
right moment for a method that resists noise, nor the other way round.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from jaxssl import trees
from jaxssl.report import figures
from jaxssl.report import stored as stored_results
from jaxssl.report.numbers import NBSP, share, signed
from jaxssl.report.section import Inputs, Section, Summary, command, shares
from jaxssl.report.stored import Baseline
from jaxssl.run.read import Run, Series
from jaxssl.types import SHARE

TITLE = "Test, fit and memory"
EVALUATIONS = ("test", "train")

QUANTITIES = {
    "last": "test, last epoch",
    "best": "test, best epoch",
    "labels": "fit of the labels",
    "true_labels": "fit of the true labels",
    "memorized": "wrong labels repeated",
}
"""What is measured of such a run, as the stored results of chapter 8 name it."""

_LEARNERS = {
    "sgd": "plain SGD",
    "ghost": "ghost mini-batches",
    "bilevel": "bilevel learning",
}
_SAME = ("data.", "percent", "method.", "model.", "noise.")
"""Settings that make two runs the same task."""

_LOCATIONS = ("data.data_dir", "noise.file")
"""Settings among them that say where files lie, which makes no other task."""

_DROP = 1.0
"""Points from the best epoch to the last that the claim calls a loss."""

_SHOWN = 0.05
"""Points that a number with one decimal place can show."""


def make(inputs: Inputs) -> Section | None:
    """Show test and fit over steps, and beside other learners."""
    run, others, _ = inputs
    if not isinstance(run.config.get("learner"), Mapping):
        return None
    context = {**_curves(run, others), "table": _table(*inputs)}
    summary = summarize(run)
    return Section(
        "labels", TITLE, context, EVALUATIONS, groups=EVALUATIONS, summary=summary
    )


def answers(run: Run) -> dict[str, float]:
    """Collect what was measured, in [0, 1] by names of `QUANTITIES`.

    Where the evaluations have not been run, the last values logged during training,
    of fewer images, stand in.
    """
    rates = {}
    test, train = _last(run, "test"), _last(run, "train")
    if _measure(run) in test:
        rates["last"] = test[_measure(run)]
        rates["best"] = best(run)[1]
    fit = {"labels": train.get("labels", train.get("precision"))}
    fit |= {name: train.get(name) for name in ("true_labels", "memorized")}
    return rates | {name: value for name, value in fit.items() if value is not None}


def best(run: Run) -> tuple[int, float]:
    """Return step and value of the best test result on the curve.

    The evaluation after training counts only where there is no curve: the curve ends
    with the same step, and may be of fewer images.
    """
    steps, values, _ = _curve(run)
    if not len(values):
        step = run.evals["test"].step
        return _end(run) if step is None else step, _last(run, "test")[_measure(run)]
    index = int(values.argmax())
    return int(steps[index]), float(values[index])


def summarize(run: Run) -> Summary:
    """Say what the network learned of its labels, and what of the wrong ones."""
    rates = answers(run)
    unmeasured = [name for name in EVALUATIONS if name not in run.evals]
    repeats = ", and what it repeats" if "memorized" in rates else ""
    return Summary(
        title=f"What the network learned{repeats}",
        claim=_claim(run, rates),
        tiles=list(_tiles(run, rates)),
        lacks="The evaluation of the trained network on all images",
        command=_evaluate(run, unmeasured) if unmeasured else "",
    )


def _evaluate(run: Run, names: Sequence[str]) -> str:
    return f"{command(run, 'evaluate', *names)} --norandom_init"


def _curves(run: Run, others: Mapping[str, Run]) -> dict[str, Any]:
    """Draw the test and the fit of labels over steps, and the tests of several runs."""
    measure = _measure(run)
    names = {
        f"test/{measure}": "test",
        f"train/{measure}": "fit of the labels",
        **{f"train/{key}": QUANTITIES[key] for key in list(QUANTITIES)[2:]},
    }
    own = {name: run.series[key] for key, name in names.items() if key in run.series}
    beside = {
        name: _curve(one)
        for name, one in {"this run": run, **others}.items()
        if len(_curve(one).steps)
    }
    drawings = {
        key: figures.training(
            series,
            label="mean average precision, %"
            if measure == "precision"
            else "% of images",
            name=f"labels-{key}",
            size=figures.MIDDLE,
        )
        for key, series in (
            ("own", own),
            ("beside", beside if beside.keys() > {"this run"} else {}),
        )
        if series
    }
    online = trees.flatten(run.config).get("eval.online.num_images")
    whole = all(name in run.evals for name in EVALUATIONS)
    return {
        **drawings,
        "online": f"{online:,}" if whole and isinstance(online, int) else "",
        "gap": _gap(answers(run)),
    }


def _table(
    run: Run, others: Mapping[str, Run], stored: Sequence[Mapping]
) -> dict[str, Any]:
    """Put the run beside others, and beside stored rows of the same task.

    Stored rows have the form of ``experiments/table_8_1.py``; they are shown if their
    data, noise, views and network are this run's.
    """
    rows = [Baseline("This run", "measured in this workdir", answers(run))]
    for name, other in others.items():
        source = f"not run: {_evaluate(other, EVALUATIONS)}"
        if answers(other):
            source = _describe_source(run, other)
        rows.append(Baseline(name, source, answers(other)))
    offered = stored_results.with_key(stored, "accuracy")
    same = [row for row in offered if _is_same_task(run.config, _config(row))]
    for row in same:
        stored_row = stored_results.baseline(row, "accuracy")
        source = stored_row.source + _other_length(run, _config(row))
        rows.append(stored_row._replace(source=source))
    shown = [key for key in QUANTITIES if any(key in row.accuracies for row in rows)]
    return {
        "columns": {key: QUANTITIES[key] for key in shown},
        "rows": rows,
        "left_out": len(offered) - len(same),
        "command": f"{command(run, 'report')} --baselines=NAME=WORKDIR",
    }


def _describe_source(run: Run, other: Run) -> str:
    """Say where a run's numbers are from, and how it differs from this run."""
    words = f"measured in {other.path}"
    if any(name not in other.evals for name in EVALUATIONS):
        words += ", as logged during training"
    if not _is_same_task(run.config, other.config):
        words += "; other data, noise, views or network"
    return words + _other_length(run, other.config)


def _measure(run: Run) -> str:
    """Return what the test measures: ``precision`` of images with several labels."""
    return "precision" if "precision" in _last(run, "test") else "accuracy"


def _last(run: Run, name: str) -> dict[str, float]:
    """Return what an evaluation found; else what was last logged in training."""
    logged = {
        key.removeprefix(f"{name}/"): float(series.values[-1])
        for key, series in run.series.items()
        if key.startswith(f"{name}/") and series.unit == SHARE
    }
    return shares(run, name) or logged


def _curve(run: Run) -> Series:
    empty = Series(np.array([], int), np.array([]))
    return run.series.get(f"test/{_measure(run)}", empty)


def _end(run: Run) -> int:
    return max((int(series.steps[-1]) for series in run.series.values()), default=0)


def _tiles(run: Run, rates: Mapping[str, float]) -> Iterator[tuple[str, str, str]]:
    texts = {
        "last": QUANTITIES["last"],
        "best": QUANTITIES["best"],
        "labels": "of the training labels are fitted",
        "true_labels": "of the true labels of the same images",
        "memorized": "of the wrong labels are repeated",
    }
    if "best" in rates:
        texts["best"] += f" (step{NBSP}{best(run)[0]:,})"
    for name, text in texts.items():
        if name in rates:
            yield f"{100.0 * rates[name]:.1f}", "%", text
    if "memorized" not in rates and {"labels", "last"} <= set(rates):
        text = "the fit of training labels over the test, last epoch"
        yield (
            signed(100.0 * (rates["labels"] - rates["last"])),
            "points",
            text,
        )


def _gap(rates: Mapping[str, float]) -> str:
    """Return how far the right answers on training images are above the test's."""
    right = rates.get("true_labels", rates.get("labels"))
    if right is None or "last" not in rates:
        return ""
    return signed(100.0 * (right - rates["last"]))


def _claim(run: Run, rates: Mapping[str, float]) -> str:
    if "last" not in rates:
        return "What this run learned from its labels has not been measured yet."
    step, top = best(run)
    lost = 100.0 * (top - rates["last"])
    beside = f"{share(top)} at step{NBSP}{step:,}"
    if lost >= _DROP:
        beside = f", {lost:.1f} points below its best ({beside})"
    elif lost >= _SHOWN:
        beside = f" (at its best {beside})"
    else:
        # A curve of fewer images may end below the evaluation of all.
        beside = ", its best" if lost > -_SHOWN else ""
    said = f"{_begin(run)} {_right(run, rates['last'])} {_when(run)}{beside}."
    if "memorized" in rates:
        return f"{said} {_meaning(rates)}"
    if "labels" in rates:
        return f"{said} It fits {share(rates['labels'])} of its training labels."
    return said


def _when(run: Run) -> str:
    """Say when the last test was; a run that goes on has no last epoch yet."""
    step = run.evals["test"].step if "test" in run.evals else None
    step = _end(run) if step is None else step
    total = trees.flatten(run.config).get("train.num_steps")
    if isinstance(total, int) and step < total:
        return f"at step{NBSP}{step:,} of {total:,}"
    return "after the last epoch"


def _right(run: Run, value: float) -> str:
    if _measure(run) == "precision":
        return f"reaches a mean average precision of {share(value)} on held-out images"
    return f"gets {share(value)} of held-out images right"


def _meaning(rates: Mapping[str, float]) -> str:
    """Say what the fit of wrong labels means.

    With a share r of wrong labels, fit(true) - fit(given) is r times the difference of
    how often a wrongly labelled image gets its true label and how often the wrong one.
    """
    said = f"It repeats {share(rates['memorized'])} of the wrong labels: such an image"
    if rates["true_labels"] > rates["labels"]:
        return (
            f"{said} gets its true label more often than the wrong one, so the network "
            "learned the classes rather than the noise."
        )
    return (
        f"{said} gets the wrong label at least as often as its true one, so the "
        "network memorised the noise."
    )


def _begin(run: Run) -> str:
    """Begin the claim with the learner and what was made wrong."""
    learner = run.config["learner"].get("name")
    words = f"Trained by {_LEARNERS.get(learner, learner)}"
    harm = _harm(run.config.get("noise"))
    return f"{words}{f' with {harm}' if harm else ''}, the network"


def _harm(noise: Any) -> str:
    """Say what was made wrong on purpose; "" if nothing was."""
    noise = noise if isinstance(noise, Mapping) else {}
    rate = f"{100.0 * noise.get('rate', 0.0):.0f}{NBSP}%"
    classes = "other" if noise.get("replacement") == "other" else "random"
    by_kind = {
        "symmetric": f"{rate} of the labels replaced by {classes} classes",
        "asymmetric": f"{rate} of the labels of confused classes replaced",
        "predicted": "labels that another network predicted",
    }
    harms = [by_kind[noise["kind"]]] if noise.get("kind") in by_kind else []
    if noise.get("permuted_pixels"):
        harms.append("the pixels of each image permuted")
    return " and ".join(harms)


def _config(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the settings that a stored row was measured with."""
    config = row.get("config")
    settings = config.get("seed0") if isinstance(config, Mapping) else None
    return settings if isinstance(settings, Mapping) else {}


def _is_same_task(ours: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two runs differ in the learner, its optimizer or length at most."""
    ours, other = (
        {
            key: value
            for key, value in trees.flatten(config).items()
            if key.startswith(_SAME) and key not in _LOCATIONS
        }
        for config in (ours, other)
    )
    return ours == other


def _other_length(run: Run, config: Mapping[str, Any]) -> str:
    """Tell the length of a run where it is not this one's."""
    ours, other = trees.flatten(run.config), trees.flatten(config)
    keys = ("train.num_steps", "train.batch_size")
    if all(ours.get(key) == other.get(key) for key in keys):
        return ""
    steps, batch = (other.get(key, "unknown") for key in keys)
    steps = f"{steps:,}" if isinstance(steps, int) else steps
    return f"; another length: {steps} steps of {batch} images"
