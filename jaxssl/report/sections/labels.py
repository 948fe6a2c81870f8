"""What a run of chapter 8 learned from its labels, perhaps wrong, and what by heart.

The section tells the last epoch *and* the best one: nobody should take a stop at the
right moment for a method that resists noise, nor the other way round.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from jaxssl import trees
from jaxssl.report import figures, stored
from jaxssl.report.numbers import NBSP, share, signed
from jaxssl.report.section import Inputs, Section, Summary, command, shares
from jaxssl.report.stored import Row
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
    run = inputs.run
    if run.setting("learner.name") is None:
        return None
    rates = answers(run)
    context = {**_draw(run, inputs.others), "gap": _gap(rates), **_compare(inputs)}
    summary = _summarize(run, rates)
    return Section(
        "labels", TITLE, context, EVALUATIONS, groups=EVALUATIONS, summary=summary
    )


def answers(run: Run) -> dict[str, float]:
    """Collect what was measured, in [0, 1] by names of `QUANTITIES`.

    Where the evaluations have not been run, the last values logged during training,
    of fewer images, stand in.
    """
    test, train = _last(run, "test"), _last(run, "train")
    rates = {
        "last": test.get(_measure(run)),
        "best": best(run)[1] if _measure(run) in test else None,
        "labels": train.get("labels", train.get("precision")),
        "true_labels": train.get("true_labels"),
        "memorized": train.get("memorized"),
    }
    return {name: value for name, value in rates.items() if value is not None}


def best(run: Run) -> tuple[int, float]:
    """Return step and value of the best test result on the curve.

    The evaluation after training counts only where there is no curve: the curve ends
    with the same step, and may be of fewer images.
    """
    curve = _curve(run)
    if curve is None:
        return _tested_step(run), _last(run, "test")[_measure(run)]
    index = int(curve.values.argmax())
    return int(curve.steps[index]), float(curve.values[index])


def _summarize(run: Run, rates: Mapping[str, float]) -> Summary:
    """Say what the network learned of its labels, and what of the wrong ones."""
    unmeasured = [name for name in EVALUATIONS if name not in run.evals]
    repeats = ", and what it repeats" if "memorized" in rates else ""
    texts = dict(QUANTITIES)
    if "best" in rates:
        texts["best"] += f" (step{NBSP}{best(run)[0]:,})"
    tiles = [(f"{100.0 * rates[key]:.1f}", "%", texts[key]) for key in rates]
    if "memorized" not in rates and {"labels", "last"} <= set(rates):
        text = "the fit of training labels over the test, last epoch"
        tiles.append((_gap(rates), "points", text))
    return Summary(
        title=f"What the network learned{repeats}",
        claim=_claim(run, rates),
        tiles=tiles,
        lacks="The evaluation of the trained network on all images",
        command=_evaluate(run, unmeasured) if unmeasured else "",
    )


def _evaluate(run: Run, names: Sequence[str] = EVALUATIONS) -> str:
    return f"{command(run, 'evaluate', *names)} --norandom_init"


def _draw(run: Run, others: Mapping[str, Run]) -> dict[str, Any]:
    """Draw the test and the fit of labels over steps, and the tests of several runs."""
    precision = _measure(run) == "precision"
    names = {f"test/{_measure(run)}": "test", "train/precision": QUANTITIES["labels"]}
    fit = ("labels", "true_labels", "memorized")
    names |= {f"train/{key}": QUANTITIES[key] for key in fit}
    own = {name: run.series[key] for key, name in names.items() if key in run.series}
    curves = {name: _curve(one) for name, one in {"this run": run, **others}.items()}
    beside = {name: curve for name, curve in curves.items() if curve is not None}
    drawings = {
        name: figures.training(
            series,
            label="mean average precision, %" if precision else "% of images",
            name=f"labels-{name}",
            size=figures.MIDDLE,
        )
        for name, series in (("own", own), ("beside", beside))
        if series
    }
    online = run.setting("eval.online.num_images")
    whole = all(name in run.evals for name in EVALUATIONS)
    return {
        "own": drawings.get("own"),
        "beside": drawings.get("beside") if beside.keys() > {"this run"} else None,
        "online": f"{online:,}" if whole and isinstance(online, int) else "",
    }


def _compare(inputs: Inputs) -> dict[str, Any]:
    """Put the run beside others, and beside stored rows of the same task.

    Stored rows have the form of ``experiments/table_8_1.py``; they are shown if their
    data, noise, views and network are this run's.
    """
    run = inputs.run
    rows = [Row("This run", "measured in this workdir", answers(run))]
    for name, other in inputs.others.items():
        logged = any(evaluation not in other.evals for evaluation in EVALUATIONS)
        source = f"measured in {other.path}"
        source += ", as logged during training" if logged else ""
        source += _describe_difference(run.config, other.config)
        rates = answers(other)
        rows.append(
            stored.measured(name, rates, source=source, command=_evaluate(other))
        )
    offered = stored.select(inputs.stored, "accuracy")
    same = [row for row in offered if _is_same_task(run.config, row.config)]
    for row in same:
        source = row.source + _describe_difference(run.config, row.config)
        rows.append(row._replace(source=source))
    shown = [key for key in QUANTITIES if any(key in row.accuracies for row in rows)]
    return {
        "columns": {key: QUANTITIES[key] for key in shown},
        "rows": rows,
        "left_out": len(offered) - len(same),
    }


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


def _curve(run: Run) -> Series | None:
    return run.series.get(f"test/{_measure(run)}")


def _tested_step(run: Run) -> int:
    step = run.evals["test"].step if "test" in run.evals else None
    return run.last_step() if step is None else step


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
    right = f"gets {share(rates['last'])} of held-out images right"
    if _measure(run) == "precision":
        precision = f"a mean average precision of {share(rates['last'])}"
        right = f"reaches {precision} on held-out images"
    claim = f"{_begin(run)}, the network {right} {_when(run)}{beside}."
    if "memorized" in rates:
        return f"{claim} {_meaning(rates)}"
    if "labels" in rates:
        return f"{claim} It fits {share(rates['labels'])} of its training labels."
    return claim


def _when(run: Run) -> str:
    """Say when the last test was; a run that goes on has no last epoch yet."""
    step, total = _tested_step(run), run.setting("train.num_steps")
    if isinstance(total, int) and step < total:
        return f"at step{NBSP}{step:,} of {total:,}"
    return "after the last epoch"


def _meaning(rates: Mapping[str, float]) -> str:
    """Say what the fit of wrong labels means.

    With a share r of wrong labels, fit(true) - fit(given) is r times the difference of
    how often a wrongly labelled image gets its true label and how often the wrong one.
    """
    meaning = (
        "gets the wrong label at least as often as its true one, so the network "
        "memorised the noise"
    )
    if rates["true_labels"] > rates["labels"]:
        meaning = (
            "gets its true label more often than the wrong one, so the network learned "
            "the classes rather than the noise"
        )
    repeated = share(rates["memorized"])
    return f"It repeats {repeated} of the wrong labels: such an image {meaning}."


def _begin(run: Run) -> str:
    """Begin the claim with the learner and what was made wrong on purpose."""
    learner = run.setting("learner.name")
    rate = f"{100.0 * (run.setting('noise.rate') or 0.0):.0f}{NBSP}%"
    other = "other" if run.setting("noise.replacement") == "other" else "random"
    by_kind = {
        "symmetric": f"{rate} of the labels replaced by {other} classes",
        "asymmetric": f"{rate} of the labels of confused classes replaced",
        "predicted": "labels that another network predicted",
    }
    harms = [by_kind.get(run.setting("noise.kind"), "")]
    if run.setting("noise.permuted_pixels"):
        harms.append("the pixels of each image permuted")
    harm = " and ".join(filter(None, harms))
    trained = f"Trained by {_LEARNERS.get(learner, learner)}"
    return f"{trained} with {harm}" if harm else trained


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


def _describe_difference(ours: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """Say in what another run differs from this one besides its learner."""
    kind = "" if _is_same_task(ours, other) else "; other data, noise, views or network"
    ours, other = trees.flatten(ours), trees.flatten(other)
    keys = ("train.num_steps", "train.batch_size")
    if all(ours.get(key) == other.get(key) for key in keys):
        return kind
    steps, batch = (other.get(key, "unknown") for key in keys)
    steps = f"{steps:,}" if isinstance(steps, int) else steps
    return f"{kind}; another length: {steps} steps of {batch} images"
