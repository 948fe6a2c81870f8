"""What the page says about the evaluations: pictures, tables and comparisons.

Each function returns what its section of the template shows. ``missing`` is "" or the
command that would make the section; a missing piece is never filled with anything else.
"""

import re
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxssl.report import align, figures, thesis
from jaxssl.report.inputs import Baseline, Evaluation, Run, command, layers, read
from jaxssl.report.story import signed

_SHOWN = ("linear_probe", "knn", "retrieval", "pretext", "shortcut", "filters")
_EXAMPLES, _QUERIES, _NEIGHBOURS = 4, 8, 6
_THESIS_COMMAND = "jaxssl train --config=configs/transformations_stl10.py --workdir=DIR"
_SMALL = 80  # Images up to this many pixels wide are enlarged without smoothing.
_SHORTCUT = {
    "composite": ("Whole images", "", None),
    "grey": ("Objects over plain grey", "at least", 0.75),
    "background_only": ("Backgrounds alone", "at most", 0.45),
}


def gallery(run: Run) -> dict[str, Any]:
    """Show originals, each transformation of them and the absolute difference."""
    found = _arrays(run, "pretext", ("gallery", "gallery_original", "names"))
    if isinstance(found, str):
        return {"missing": found}
    views, originals, names = found
    rows = []
    for original, transformed in list(zip(originals, views, strict=False))[:_EXAMPLES]:
        cells = []
        for view, name in zip(transformed, names, strict=False):
            changed = ""
            if align.fits(original, view):
                changed = figures.png(align.difference(original, view, str(name)))
            cells.append((figures.png(view), changed))
        rows.append({"original": figures.png(original), "cells": cells})
    return {
        "missing": "",
        "names": [str(name) for name in names],
        "rows": rows,
        "small": views.shape[-2] <= _SMALL,
    }


def confusion(run: Run) -> dict[str, Any]:
    """Show which transformation is taken for which, in shares of each true one."""
    found = _arrays(run, "pretext", ("confusion", "names"))
    if isinstance(found, str):
        return {"missing": found}
    counts, names = found[0].astype(np.float64), [str(name) for name in found[1]]
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1.0)
    wrong = shares - np.diag(np.diag(shares))
    true, taken = np.unravel_index(int(wrong.argmax()), wrong.shape)
    return {
        "missing": "",
        "names": names,
        "shares": shares.tolist(),
        "counts": counts.astype(int).tolist(),
        "accuracy": float(np.trace(counts) / max(counts.sum(), 1.0)),
        "worst": (names[true], names[taken], float(wrong[true, taken])),
    }


def probe(run: Run, baselines: Sequence[Baseline]) -> dict[str, Any]:
    """Compare linear-probe accuracy by layer with random init and the baselines."""
    ours = _layers(run.evals)
    if not ours:
        return {"missing": command(run, "evaluate", "linear_probe")}
    random = _layers(run.random_init)
    names = list(ours)
    lines = [_line("this run", ours, {}, names)]
    rows = [_row("This run", "measured in this workdir", ours, {}, random, names)]
    if random:
        lines.append(_line("random init", random, {}, names))
        told = "the same network untrained, batch-norm statistics filled"
        rows.append(_row("Random init", told, random, {}, {}, names))
    else:
        told = f"not run: {command(run, 'evaluate', 'linear_probe')}"
        rows.append(_row("Random init", told, {}, {}, {}, names))
    for base in baselines:
        row = _row(base.name, base.source, base.accuracies, base.spread, random, names)
        rows.append(row)
        if any(name in base.accuracies for name in names):
            lines.append(_line(base.name, base.accuracies, base.spread, names))
    drawing = figures.by_layer(lines, layers=names, reference=1 if random else None)
    return {"missing": "", "svg": drawing, "layers": names, "rows": rows}


def knn(run: Run) -> dict[str, Any]:
    """Show nearest-neighbour accuracy over k, held-out and leave-one-out."""
    ours, base = _by_k(run.evals), _by_k(run.random_init)
    if not ours:
        return {"missing": command(run, "evaluate", "knn")}
    lines, rows = [], []
    for owner, found in (("this run", ours), ("random init", base)):
        for kind, told in (("", "held-out"), ("loo_", "leave-one-out")):
            values = found.get(kind, {})
            if values:
                y = [100.0 * value for value in values.values()]
                lines.append(figures.Line(f"{owner}, {told}", list(values), y))
                rows.append((f"{owner}, {told}", values))
    ks = sorted({k for _, values in rows for k in values})
    random_missing = "" if base else command(run, "evaluate", "knn")
    return {
        "missing": "",
        "svg": figures.neighbours(lines),
        "ks": ks,
        "rows": rows,
        "random_missing": random_missing,
    }


def retrieval(run: Run) -> dict[str, Any]:
    """Show queries with their nearest neighbours, trained beside untrained."""
    wanted = ("query_images", "neighbor_images", "query_labels", "neighbor_labels")
    found = _arrays(run, "retrieval", wanted)
    if isinstance(found, str):
        return {"missing": found}
    sides = [{"name": "This run", **_strips(run.evals["retrieval"])}]
    other = run.random_init.get("retrieval")
    if other and all(name in other.arrays for name in wanted):
        sides.append({"name": "Random init", **_strips(other)})
    missing = "" if len(sides) == 2 else command(run, "evaluate", "retrieval")
    small = found[0].shape[-2] <= _SMALL
    return {"missing": "", "sides": sides, "random_missing": missing, "small": small}


def filters(run: Run) -> dict[str, Any]:
    """Show the first layer's filters before and after training."""
    found = _arrays(run, "filters", ("conv1",))
    if isinstance(found, str):
        return {"missing": found}
    sides = [("After training", _grid(found[0]))]
    before = run.random_init.get("filters")
    if before and "conv1" in before.arrays:
        sides.insert(0, ("Before training", _grid(before.arrays["conv1"])))
    missing = "" if len(sides) == 2 else command(run, "evaluate", "filters")
    return {"missing": "", "sides": sides, "random_missing": missing}


def shortcut(run: Run) -> dict[str, Any]:
    """Ask whether the transformation is read off the object or the background."""
    scalars = _scalars(run.evals, "shortcut")
    if not scalars:
        return {
            "missing": command(run, "evaluate", "shortcut"),
            "absent": _no_shortcut(run),
        }
    bars = []
    for name in [*_SHORTCUT, *(n for n in scalars if n not in _SHORTCUT)]:
        if name in scalars:
            label, sense, limit = _SHORTCUT.get(name, (name, "", None))
            bars.append((label, scalars[name], sense, limit))
    return {"missing": "", "absent": "", "bars": bars}


def others(
    run: Run, shown: Container[str] = _SHOWN, *, untrained: bool = True
) -> list[dict[str, Any]]:
    """List the scalars of every evaluation that has no section of its own.

    ``x_sd`` is shown as the spread of ``x``.

    Args:
      run: whose evaluations.
      shown: names of those that have one.
      untrained: whether the untrained network stands beside it.

    Returns:
      What the template shows of each.
    """
    found = []
    for name, evaluation in run.evals.items():
        ours, base = evaluation.scalars, _scalars(run.random_init, name)
        keys = [key for key in ours if not (key.endswith("_sd") and key[:-3] in ours)]
        if name in shown or not keys:
            continue
        rows = []
        owners = [("This run", ours)]
        owners += [("Random init", base)] if untrained or base else []
        for owner, scalars in owners:
            cells = [(scalars.get(key), scalars.get(f"{key}_sd")) for key in keys]
            rows.append((owner, cells if scalars else []))
        shares = all(0.0 <= value <= 1.0 for value in (*ours.values(), *base.values()))
        found.append(
            {
                "name": name.replace("_", " "),
                "keys": keys,
                "rows": rows,
                "shares": shares,
                "command": command(run, "evaluate", name),
            }
        )
    return found


def beside_thesis(run: Run, others: Mapping[str, Run]) -> dict[str, Any]:
    """Put what was run on STL-10 beside Table 4.2; all else there is "not run".

    Runs of the thesis' own protocol (``configs/probe_stl10.py``) count before the
    cached probe; their row is that of the run whose features they read.
    """
    measured: dict[str, thesis.Measured] = {}
    for one in (*others.values(), run):
        if not is_stl10(one):
            continue
        found = (
            (thesis.row_name(_classes(one)), _layers(one.evals), thesis.CACHED),
            ("Random", _layers(one.random_init), thesis.CACHED),
            (_probed_row(one), _protocol(one), thesis.PROTOCOL),
        )
        for name, numbers, how in found:
            settled = name in measured and measured[name].how == thesis.PROTOCOL
            if name in thesis.TABLE_4_2 and numbers:
                if how == thesis.PROTOCOL or not settled:
                    measured[name] = thesis.Measured(numbers, how)
    return {
        "rows": thesis.rows(measured),
        "layers": thesis.LAYERS,
        "tolerance": thesis.TOLERANCE,
        "same_data": is_stl10(run),
        "our_row": thesis.row_name(_classes(run)),
        "command": _THESIS_COMMAND,
    }


def _protocol(run: Run) -> dict[str, float]:
    return layers(_scalars(run.evals, "linear_classifiers"))


def _probed_row(run: Run) -> str:
    """Name the row whose features a run of the thesis' protocol reads, if known."""
    init_from = run.config.get("init_from")
    place = init_from.get("classifier") if isinstance(init_from, Mapping) else None
    if not _protocol(run) or not place:
        return ""
    if place == "random":
        return "Random"
    if not (Path(place) / "config.json").exists():
        return ""
    return thesis.row_name(_classes(read(Path(place))))


def is_stl10(run: Run) -> bool:
    """Whether the run's data set is STL-10, the one of Table 4.2."""
    return "stl10" in _data_name(run).lower().replace("-", "").replace("_", "")


def _classes(run: Run) -> list[str]:
    names = run.evals["pretext"].arrays.get("names") if "pretext" in run.evals else None
    if names is not None:
        return [str(name) for name in names]
    method = run.config.get("method")
    for value in method.values() if isinstance(method, Mapping) else ():
        if isinstance(value, list) and {"rot90", "warp", "lci"} & set(map(str, value)):
            return [str(name) for name in value]
    return []


def has_task(run: Run) -> bool:
    """Whether the run recognises transformations; True where nothing tells."""
    return bool(_classes(run)) or "method" not in run.config


def _no_shortcut(run: Run) -> str:
    """Say why the shortcut check does not apply; "" if it does."""
    if sum(name.startswith("rot") for name in _classes(run)) < 1:
        return "The check asks for rotations, and this run was not trained on any."
    if "fashion_on_photos" not in _data_name(run):
        return (
            "The check needs images whose objects and backgrounds can be shown apart, "
            "as those of fashion_on_photos can; it does not exist for this data set."
        )
    return ""


def _data_name(run: Run) -> str:
    """Return the data set's name, or the config file's, which is <method>_<data>."""
    data = run.config.get("data")
    name = data.get("name") if isinstance(data, Mapping) else data
    return str(name or Path(run.config_file).stem)


def _scalars(evals: Mapping[str, Evaluation], name: str) -> dict[str, float]:
    return evals[name].scalars if name in evals else {}


def _layers(evals: Mapping[str, Evaluation]) -> dict[str, float]:
    return layers(_scalars(evals, "linear_probe"))


def _arrays(run: Run, name: str, wanted: Sequence[str]) -> list[np.ndarray] | str:
    """Return the arrays, or the command that makes the missing ones."""
    arrays: dict[str, np.ndarray] = run.evals[name].arrays if name in run.evals else {}
    if any(key not in arrays for key in wanted):
        return command(run, "evaluate", name)
    return [arrays[key] for key in wanted]


def _line(
    name: str,
    values: Mapping[str, float],
    spread: Mapping[str, float],
    names: Sequence[str],
) -> figures.Line:
    known = [(i, layer) for i, layer in enumerate(names) if layer in values]
    return figures.Line(
        name,
        [i for i, _ in known],
        [100.0 * values[layer] for _, layer in known],
        [100.0 * spread.get(layer, 0.0) for _, layer in known] if spread else None,
    )


def _row(
    name: str,
    source: str,
    values: Mapping[str, float],
    spread: Mapping[str, float],
    random: Mapping[str, float],
    names: Sequence[str],
) -> dict[str, Any]:
    cells = []
    for layer in names:
        value = values.get(layer)
        gap = ""
        if value is not None and layer in random:
            gap = signed(100.0 * (value - random[layer]))
        cells.append((value, spread.get(layer), gap))
    return {"name": name, "source": source, "cells": cells}


def _by_k(evals: Mapping[str, Evaluation]) -> dict[str, dict[int, float]]:
    found: dict[str, dict[int, float]] = {}
    for name, value in _scalars(evals, "knn").items():
        match = re.fullmatch(r"(loo_)?k(\d+)", name)
        if match:
            found.setdefault(match[1] or "", {})[int(match[2])] = value
    return {kind: dict(sorted(values.items())) for kind, values in found.items()}


def _strips(evaluation: Evaluation) -> dict[str, Any]:
    arrays = evaluation.arrays
    names = arrays.get("class_names")
    right, total, rows = 0, 0, []
    labels, answers = arrays["query_labels"], arrays["neighbor_labels"]
    for i in range(min(_QUERIES, len(labels))):
        strip = []
        for j in range(min(_NEIGHBOURS, answers.shape[1])):
            same = int(answers[i, j]) == int(labels[i])
            image = figures.png(arrays["neighbor_images"][i, j])
            strip.append((image, _name(names, answers[i, j]), same))
            right, total = right + same, total + 1
        query = figures.png(arrays["query_images"][i])
        rows.append({"query": query, "label": _name(names, labels[i]), "strip": strip})
    precision = evaluation.scalars.get("precision")
    return {"rows": rows, "right": right, "total": total, "precision": precision}


def _name(names: np.ndarray | None, label: Any) -> str:
    index = int(label)
    if names is None or not 0 <= index < len(names):
        return f"class {index}"
    return str(names[index])


def _grid(kernels: np.ndarray) -> dict[str, Any]:
    grid = figures.filter_grid(kernels)
    size = "\N{MULTIPLICATION SIGN}".join(str(side) for side in kernels.shape[:2])
    image = figures.png(grid, longest=1024)
    return {"image": image, "count": kernels.shape[-1], "size": size}
