"""What the page says about a run that learns from labels, perhaps wrong (chapter 8).

Of the last epoch *and* the best one: nobody should take a stop at the right moment for
a method that resists noise, nor the other way round.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxssl.report import figures
from jaxssl.report.inputs import (
    Baseline,
    Run,
    Series,
    command,
    measured,
    stored_rows,
)
from jaxssl.report.story import NBSP, flat, share, signed

QUANTITIES = {
    "last": "test, last epoch",
    "best": "test, best epoch",
    "labels": "fit of the labels",
    "true_labels": "fit of the true labels",
    "memorized": "wrong labels repeated",
}
"""What is measured of such a run, as the stored results of chapter 8 name it."""

GROUPS = ("test", "train", "bilevel", "weights")
"""Metrics that are shown here and in `weights`, not among those of training."""

EVALS = ("test", "train")

_LEARNERS = {
    "sgd": "plain SGD",
    "ghost": "ghost mini-batches",
    "bilevel": "bilevel learning",
}
_SAME = ("data.", "percent", "method.", "model.", "noise.")
_PLACES = ("data.data_dir", "noise.file")  # Where files lie makes no other task.
_DROP = 1.0  # Points from the best epoch to the last that the claim tells as a loss.
_SHOWN = 0.05  # Points that a number with one decimal place can show.


def applies(run: Run) -> bool:
    """Whether the run learns from labels by a learner of chapter 8."""
    return isinstance(run.config.get("learner"), Mapping)


def answers(run: Run) -> dict[str, float]:
    """Collect what was measured, in [0, 1] by names of `QUANTITIES`.

    Where the evaluations have not been run, the last values logged during training,
    of fewer images, stand in.
    """
    found = {}
    test, train = _last(run, "test"), _last(run, "train")
    if _measure(run) in test:
        found["last"] = test[_measure(run)]
        found["best"] = best(run)[1]
    names = {"labels": "labels", "precision": "labels"}
    names |= {name: name for name in ("true_labels", "memorized")}
    return found | {names[name]: train[name] for name in train if name in names}


def best(run: Run) -> tuple[int, float]:
    """Return step and value of the best test result on the curve.

    The evaluation after training counts where there is no curve alone: the curve ends
    with the same step, and may be of fewer images.
    """
    steps, values = _curve(run)
    if not len(values):
        evaluation = run.evals["test"]
        step = evaluation.step
        value = evaluation.scalars[_measure(run)]
        return step if step is not None else _end(run), value
    place = int(values.argmax())
    return int(steps[place]), float(values[place])


def summary(run: Run) -> dict[str, Any]:
    """Say what the network learned of its labels, and what of the wrong ones.

    Returns:
      As `story.summary`.
    """
    found = answers(run)
    unmeasured = [name for name in EVALS if name not in run.evals]
    how = f"{command(run, 'evaluate', *unmeasured)} --norandom_init"
    noisy = "memorized" in found
    return {
        "title": f"What the network learned{', and what it repeats' if noisy else ''}",
        "claim": _claim(run, found),
        "missing": how if unmeasured else "",
        "lacks": "The evaluation of the trained network on all images",
        "tiles": list(_tiles(run, found)),
    }


def curves(run: Run, others: Mapping[str, Run]) -> dict[str, Any]:
    """Draw the test and the fit of labels over steps, and the tests of several runs."""
    measure = _measure(run)
    names = {
        f"test/{measure}": "test",
        f"train/{measure}": "fit of the labels",
        "train/labels": QUANTITIES["labels"],
        "train/true_labels": QUANTITIES["true_labels"],
        "train/memorized": QUANTITIES["memorized"],
    }
    own = {told: run.metrics[key] for key, told in names.items() if key in run.metrics}
    tests = {"this run": run, **others}
    beside = {name: _curve(one) for name, one in tests.items() if len(_curve(one)[0])}
    drawings = {}
    for key, series in (("own", own), ("beside", beside if len(beside) > 1 else {})):
        if series:
            unit, name = "% of images", f"labels-{key}"
            if measure == "precision":
                unit = "mean average precision, %"
            drawings[key] = figures.training(
                series, unit=unit, name=name, size=figures.MIDDLE
            )
    online = dict(flat(run.config)).get("eval.online.num_images", "")
    whole = all(name in run.evals for name in EVALS)
    return {
        **drawings,
        "online": f"{int(online):,}" if whole and online.isdigit() else "",
        "gap": _gap(answers(run)),
    }


def table(
    run: Run, others: Mapping[str, Run], stored: Sequence[Path]
) -> dict[str, Any]:
    """Put the run beside others, and beside stored rows of the same task.

    Args:
      run: the run.
      others: further runs by the name of their row.
      stored: results in the form of ``experiments/table_8_1.py``; their rows are shown
        if data, noise, views and network are this run's.

    Returns:
      What the template shows.
    """
    rows = [Baseline("This run", "measured in this workdir", answers(run), {})]
    for name, other in others.items():
        found = answers(other)
        source = _source(run, other)
        if not found:
            source = f"not run: {command(other, 'evaluate', *EVALS)} --norandom_init"
        rows.append(Baseline(name, source, found, {}))
    offered = stored_rows(stored, "accuracy")
    taken = [row for row in offered if _same_task(run.config, _config(row))]
    for row in taken:
        means, spread = measured(row, "accuracy")
        source = row["source"] + _other_length(run, _config(row))
        rows.append(Baseline(row["name"], source, means, spread))
    shown = [key for key in QUANTITIES if any(key in row.accuracies for row in rows)]
    return {
        "columns": {key: QUANTITIES[key] for key in shown},
        "rows": rows,
        "left_out": len(offered) - len(taken),
        "command": f"{command(run, 'report')} --baselines=NAME=WORKDIR",
    }


def _source(run: Run, other: Run) -> str:
    """Say where a run's numbers are from, and how it is not this run's equal."""
    words = f"measured in {other.path}"
    if any(name not in other.evals for name in EVALS):
        words += ", as logged during training"
    if not _same_task(run.config, other.config):
        words += "; other data, noise, views or network"
    return words + _other_length(run, other.config)


def _measure(run: Run) -> str:
    """Return the test's scalar: ``precision`` where an image has several labels."""
    method = run.config.get("method")
    several = isinstance(method, Mapping) and method.get("labels") == "attributes"
    return "precision" if several else "accuracy"


def _last(run: Run, name: str) -> dict[str, float]:
    """Return what an evaluation found; else what was last logged in training."""
    if name in run.evals and run.evals[name].scalars:
        return run.evals[name].scalars
    logged = {key.partition("/"): series for key, series in run.metrics.items()}
    return {
        rest: float(series.values[-1])
        for (group, _, rest), series in logged.items()
        if group == name
    }


def _curve(run: Run) -> Series:
    empty = Series(np.array([], int), np.array([]))
    return run.metrics.get(f"test/{_measure(run)}", empty)


def _end(run: Run) -> int:
    return max((int(series.steps[-1]) for series in run.metrics.values()), default=0)


def _tiles(run: Run, found: Mapping[str, float]) -> Iterator[tuple[str, str, str]]:
    told = {
        "last": QUANTITIES["last"],
        "best": QUANTITIES["best"],
        "labels": "of the training labels are fitted",
        "true_labels": "of the true labels of the same images",
        "memorized": "of the wrong labels are repeated",
    }
    if "best" in found:
        told["best"] += f" (step{NBSP}{best(run)[0]:,})"
    for name in told:
        if name in found:
            yield f"{100.0 * found[name]:.1f}", "%", told[name]
    if "memorized" not in found and {"labels", "last"} <= set(found):
        told_gap = "the fit of training labels over the test, last epoch"
        yield signed(100.0 * (found["labels"] - found["last"])), "points", told_gap


def _gap(found: Mapping[str, float]) -> str:
    """Return how far the right answers on training images are above the test's."""
    right = found.get("true_labels", found.get("labels"))
    if right is None or "last" not in found:
        return ""
    return signed(100.0 * (right - found["last"]))


def _claim(run: Run, found: Mapping[str, float]) -> str:
    if "last" not in found:
        return "What this run learned from its labels has not been measured yet."
    step, top = best(run)
    lost = 100.0 * (top - found["last"])
    beside = f"{share(top)} at step{NBSP}{step:,}"
    if lost >= _DROP:
        beside = f", {lost:.1f} points below its best ({beside})"
    elif lost >= _SHOWN:
        beside = f" (at its best {beside})"
    else:
        # A curve of fewer images may end below the evaluation of all.
        beside = ", its best" if lost > -_SHOWN else ""
    said = f"{_how(run)} {_right(run, found['last'])} {_when(run)}{beside}."
    if "memorized" in found:
        return f"{said} {_meaning(found)}"
    if "labels" in found:
        return f"{said} It fits {share(found['labels'])} of its training labels."
    return said


def _when(run: Run) -> str:
    """Say when the last test was; a run that goes on has no last epoch yet."""
    evaluation = run.evals.get("test")
    step = evaluation.step if evaluation else None
    step = _end(run) if step is None else step
    total = dict(flat(run.config)).get("train.num_steps", "")
    if total.isdigit() and step < int(total):
        return f"at step{NBSP}{step:,} of {int(total):,}"
    return "after the last epoch"


def _right(run: Run, value: float) -> str:
    if _measure(run) == "precision":
        return f"reaches a mean average precision of {share(value)} on held-out images"
    return f"gets {share(value)} of held-out images right"


def _meaning(found: Mapping[str, float]) -> str:
    """Say what the fit of wrong labels means.

    With a share r of wrong labels, fit(true) - fit(given) is r times the difference of
    how often a wrongly labelled image gets its true label and how often the wrong one.
    """
    said = f"It repeats {share(found['memorized'])} of the wrong labels: such an image"
    if found["true_labels"] > found["labels"]:
        return (
            f"{said} gets its true label more often than the wrong one, so the network "
            "learned the classes rather than the noise."
        )
    return (
        f"{said} gets the wrong label at least as often as its true one, so the "
        "network memorised the noise."
    )


def _how(run: Run) -> str:
    """Begin the claim with the learner and what was made wrong."""
    learner = run.config["learner"].get("name")
    words = f"Trained by {_LEARNERS.get(learner, learner)}"
    harm = _harm(run.config.get("noise"))
    return f"{words}{f' with {harm}' if harm else ''}, the network"


def _harm(noise: Any) -> str:
    noise = noise if isinstance(noise, Mapping) else {}
    rate = f"{100.0 * noise.get('rate', 0.0):.0f}{NBSP}%"
    classes = "other" if noise.get("replacement") == "other" else "random"
    done = {
        "symmetric": f"{rate} of the labels replaced by {classes} classes",
        "asymmetric": f"{rate} of the labels of confused classes replaced",
        "predicted": "labels that another network predicted",
    }
    words = [done[noise["kind"]]] if noise.get("kind") in done else []
    if noise.get("permuted_pixels"):
        words.append("the pixels of each image permuted")
    return " and ".join(words)


def _config(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the settings that a stored row was measured with."""
    config = row.get("config")
    settings = config.get("seed0") if isinstance(config, Mapping) else None
    return settings if isinstance(settings, Mapping) else {}


def _same_task(ours: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two runs differ in the learner, its optimizer or length at most."""
    ours, other = (
        {
            key: value
            for key, value in flat(config)
            if key.startswith(_SAME) and key not in _PLACES
        }
        for config in (ours, other)
    )
    return ours == other


def _other_length(run: Run, config: Mapping[str, Any]) -> str:
    """Tell the length of a run where it is not this one's."""
    ours, other = dict(flat(run.config)), dict(flat(config))
    keys = ("train.num_steps", "train.batch_size")
    if all(ours.get(key) == other.get(key) for key in keys):
        return ""
    steps, batch = (other.get(key, "unknown") for key in keys)
    steps = f"{int(steps):,}" if steps.isdigit() else steps
    return f"; another length: {steps} steps of {batch} images"
