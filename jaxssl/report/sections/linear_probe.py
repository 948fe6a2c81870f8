"""What a linear classifier reads off each layer, and what the features are worth."""

from collections.abc import Mapping, Sequence

from jaxssl.report import figures, stored
from jaxssl.report.numbers import NBSP, share, signed
from jaxssl.report.section import Inputs, Section, Summary, command, shares
from jaxssl.report.sections import pretext
from jaxssl.report.stored import Row
from jaxssl.run.read import Run
from jaxssl.text import natural_order

TITLE = "Linear probes"
EVALUATIONS = ("linear_probe",)


def make(inputs: Inputs) -> Section | None:
    """Compare accuracies by layer with random init, other runs and stored rows."""
    run = inputs.run
    probe = shares(run, "linear_probe")
    if not probe:
        return None
    base = shares(run, "linear_probe", random_init=True)
    rows = [
        Row("This run", "measured in this workdir", probe),
        stored.measured(
            "Random init",
            base,
            source="the same network untrained, batch-norm statistics filled",
            command=command(run, "evaluate", "linear_probe"),
        ),
    ]
    rows += [
        stored.measured(
            name,
            shares(other, "linear_probe"),
            source=f"measured in {other.path}",
            command=command(other, "evaluate", "linear_probe"),
        )
        for name, other in inputs.others.items()
    ]
    rows += stored.select(inputs.stored, "linear_probe")
    columns = {layer: layer for layer in sorted(probe, key=natural_order)}
    drawing = figures.compare(
        rows, columns, name="probe", title="Linear probe accuracy by layer"
    )
    context = {"svg": drawing, "columns": columns, "rows": rows}
    summary = _summarize(run, probe, base)
    return Section("linear_probe", TITLE, context, EVALUATIONS, summary=summary)


def _summarize(
    run: Run, probe: Mapping[str, float], base: Mapping[str, float]
) -> Summary:
    """Say in one sentence what was learned, with the numbers behind it."""
    layers = sorted(probe, key=natural_order)
    deepest = [layer for layer in layers if layer in base][-2:]
    gains = [100.0 * (probe[layer] - base[layer]) for layer in deepest]
    tiles = [
        (signed(gain), "points", f"{layer} probe, over the same net untrained")
        for layer, gain in zip(deepest, gains, strict=True)
    ]
    accuracy, classes = shares(run, "pretext").get("accuracy"), pretext.classes(run)
    if accuracy is not None and classes:
        text = f"transformations recognised, chance {100.0 / len(classes):.0f}{NBSP}%"
        tiles.append((f"{100.0 * accuracy:.1f}", "%", text))
    right = " and ".join(
        f"{share(probe[layer])} ({layer})" for layer in deepest or layers[-2:]
    )
    return Summary(
        title="What the network learned",
        claim=f"{_begin(run)} a linear probe gets {right} of held-out images right"
        + _compare(gains),
        tiles=tiles,
        lacks="The comparison with the untrained network",
        command="" if base else command(run, "evaluate"),
    )


def _begin(run: Run) -> str:
    """Begin the claim with the transformations that were recognised, if any."""
    classes = pretext.classes(run)
    if "pretext" not in run.evals or not classes:
        return "From the features of the trained network"
    accuracy = shares(run, "pretext").get("accuracy")
    right = f" ({share(accuracy)} right)" if accuracy is not None else ""
    return (
        f"By learning to tell {len(classes)} image transformations apart{right}, "
        "without any label, the network found features from which"
    )


def _compare(gains: Sequence[float]) -> str:
    """End the claim with the points that the trained network is above the untrained."""
    if not gains:
        return "; the untrained network has not been measured beside it yet."
    sides = ["above" if gain >= 0 else "below" for gain in gains]
    *first, last = (f"{abs(gain):.1f}" for gain in gains)
    if len(set(sides)) > 1:  # "10.0 above and 20.0 points below"
        first = [f"{points} {side}" for points, side in zip(first, sides, strict=False)]
    points = " and ".join([*first, f"{last} points {sides[-1]}"])
    return f": {points} what the same network reaches untrained."
