"""What a linear classifier reads off each layer, and what the features are worth."""

from collections.abc import Mapping, Sequence
from typing import Any

from jaxssl.report import figures
from jaxssl.report import stored as stored_results
from jaxssl.report.numbers import NBSP, share, signed
from jaxssl.report.section import Inputs, Section, Summary, command, shares
from jaxssl.report.sections import pretext
from jaxssl.report.stored import Baseline
from jaxssl.run.read import Run
from jaxssl.text import natural_order

TITLE = "Linear probes"
EVALUATIONS = ("linear_probe",)


def make(inputs: Inputs) -> Section | None:
    """Compare accuracies by layer with random init, other runs and stored rows."""
    run, others, stored = inputs
    ours = shares(run, "linear_probe")
    if not ours:
        return None
    random = shares(run, "linear_probe", random_init=True)
    layers = sorted(ours, key=natural_order)
    baselines = [Baseline("This run", "measured in this workdir", ours)]
    if random:
        source = "the same network untrained, batch-norm statistics filled"
    else:
        source = f"not run: {command(run, 'evaluate', 'linear_probe')}"
    baselines.append(Baseline("Random init", source, random))
    baselines += [_take(name, other) for name, other in others.items()]
    baselines += [
        stored_results.baseline(row, "linear_probe")
        for row in stored_results.with_key(stored, "linear_probe")
    ]
    lines = [
        _line(baseline, layers)
        for baseline in baselines
        if any(layer in baseline.accuracies for layer in layers)
    ]
    context = {
        "svg": figures.by_layer(lines, layers=layers, reference=1 if random else None),
        "layers": layers,
        "rows": [_row(baseline, random, layers) for baseline in baselines],
    }
    return Section("linear_probe", TITLE, context, EVALUATIONS, summary=summarize(run))


def summarize(run: Run) -> Summary:
    """Say in one sentence what was learned, with the numbers behind it."""
    probe = shares(run, "linear_probe")
    base = shares(run, "linear_probe", random_init=True)
    layers = sorted(probe, key=natural_order)
    deepest = [layer for layer in layers if layer in base][-2:] or layers[-2:]
    tiles = [
        (
            signed(100.0 * (probe[layer] - base[layer])),
            "points",
            f"{layer} probe, over the same net untrained",
        )
        for layer in deepest
        if layer in base
    ]
    accuracy = shares(run, "pretext").get("accuracy")
    if accuracy is not None:
        kinds = len(pretext.classes(run))
        chance = f", chance {100.0 / kinds:.0f}{NBSP}%" if kinds else ""
        text = f"transformations recognised{chance}"
        tiles.append((f"{100.0 * accuracy:.1f}", "%", text))
    return Summary(
        title="What the network learned",
        claim=_claim(run, probe, base, deepest),
        tiles=tiles,
        lacks="The comparison with the untrained network",
        command="" if probe and base else command(run, "evaluate"),
    )


def _claim(
    run: Run,
    probe: Mapping[str, float],
    base: Mapping[str, float],
    deepest: Sequence[str],
) -> str:
    if not probe:
        return "What this run learned has not been measured yet."
    right = " and ".join(f"{share(probe[layer])} ({layer})" for layer in deepest)
    said = f"{_begin(run)} a linear probe gets {right} of held-out images right"
    if not all(layer in base for layer in deepest):
        return f"{said}; the untrained network has not been measured beside it yet."
    gains = [100.0 * (probe[layer] - base[layer]) for layer in deepest]
    words = [f"{abs(gain):.1f} {'above' if gain >= 0 else 'below'}" for gain in gains]
    if len({gain >= 0 for gain in gains}) == 1:  # "18.7 and 20.9 above"
        words[:-1] = [word.split()[0] for word in words[:-1]]
    words[-1] = words[-1].replace(" ", " points ")
    return f"{said}: {' and '.join(words)} what the same network reaches untrained."


def _begin(run: Run) -> str:
    """Begin the claim with the transformations that were recognised, if any."""
    if "pretext" not in run.evals or not pretext.classes(run):
        return "From the features of the trained network"
    accuracy = shares(run, "pretext").get("accuracy")
    right = f" ({share(accuracy)} right)" if accuracy is not None else ""
    return (
        f"By learning to tell {len(pretext.classes(run))} image transformations apart"
        f"{right}, without any label, the network found features from which"
    )


def _take(name: str, run: Run) -> Baseline:
    """Take the linear probe of another run."""
    accuracies = shares(run, "linear_probe")
    missing = f"not run: {command(run, 'evaluate', 'linear_probe')}"
    source = f"measured in {run.path}" if accuracies else missing
    return Baseline(name, source, accuracies)


def _line(baseline: Baseline, layers: Sequence[str]) -> figures.Line:
    values, spread = baseline.accuracies, baseline.spread
    known = [(i, layer) for i, layer in enumerate(layers) if layer in values]
    return figures.Line(
        baseline.name,
        [i for i, _ in known],
        [100.0 * values[layer] for _, layer in known],
        [100.0 * spread.get(layer, 0.0) for _, layer in known] if spread else None,
    )


def _row(
    baseline: Baseline, random: Mapping[str, float], layers: Sequence[str]
) -> dict[str, Any]:
    cells = []
    for layer in layers:
        value, gap = baseline.accuracies.get(layer), ""
        if value is not None and layer in random and baseline.accuracies is not random:
            gap = signed(100.0 * (value - random[layer]))
        cells.append((value, baseline.spread.get(layer), gap))
    return {"name": baseline.name, "source": baseline.source, "cells": cells}
