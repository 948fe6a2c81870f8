"""Workdirs as training and evaluation leave them, with made-up numbers."""

import json

import numpy as np

LAYERS = ("conv1", "conv2", "conv3", "conv4", "conv5")
CLASSES = ("none", "rot90", "rot180", "rot270", "warp")
OURS = (0.606, 0.664, 0.653, 0.615, 0.601)
RANDOM = (0.47, 0.52, 0.474, 0.428, 0.392)
KS = (1, 5, 20)


def put(folder, name, shares, arrays=None, *, step=1200):
    """Store shares by name; ``x_sd`` is the spread of ``x``."""
    metrics = {
        key: {"value": value, "unit": "share", "spread": shares.get(f"{key}_sd")}
        for key, value in shares.items()
        if not key.endswith("_sd")
    }
    put_metrics(folder, name, metrics, arrays, step=step)


def put_metrics(folder, name, metrics, arrays=None, *, step=1200):
    """Store metrics by their fields; fields without a value are left out."""
    given = {
        key: {field: x for field, x in fields.items() if x is not None}
        for key, fields in metrics.items()
    }
    folder.mkdir(parents=True, exist_ok=True)
    body = {"step": step, "seconds": 2.5, "metrics": given}
    (folder / f"{name}.json").write_text(json.dumps(body))
    np.savez(folder / f"{name}.npz", **(arrays or {}))


def start(
    workdir, *, data="fashion_on_photos", method=None, file="configs/a.py", **more
):
    workdir.mkdir()
    config = {
        "seed": 0,
        "data": {"name": data},
        "method": method or {"classes": CLASSES, "warp_magnitude": 0.125},
        "train": {"num_steps": 1200, "batch_size": 32},
        "eval": {"features": {}, "online": {}},
        **more,
    }
    body = {"config_file": file, "variant": None, "config": config}
    (workdir / "config.json").write_text(json.dumps(body))
    return workdir


def log(workdir, count=4):
    rows = [
        {
            "step": 300 * (i + 1),
            "loss/classifier": 1.6 - 0.2 * i,
            "acc/pretext": 0.2 + 0.1 * i,
            "speed/images_per_second": 320.0,
            "speed/input_wait_share": 0.0125,
        }
        for i in range(count)
    ]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (workdir / "metrics.jsonl").write_text(lines)


def pictures(rng, *shape):
    return rng.integers(0, 256, (*shape, 3), np.uint8)


def evaluate(folder, rng, *, accuracies=OURS, shift=0.0):
    put(folder, "linear_probe", dict(zip(LAYERS, accuracies, strict=True)))
    knn = {f"k{k}": 0.5 + shift + 0.001 * k for k in KS}
    knn |= {f"loo_k{k}": 0.55 + shift + 0.001 * k for k in KS}
    put(folder, "knn", knn)
    put(folder, "few_shot", {"conv5": 0.3125 + shift, "conv5_sd": 0.0156})
    strips = {
        "query_images": pictures(rng, 3, 8, 8),
        "neighbor_images": pictures(rng, 3, 4, 8, 8),
        "query_labels": np.array([0, 1, 1]),
        "neighbor_labels": np.array([[0, 0, 1, 0], [1, 1, 1, 1], [0, 0, 0, 1]]),
        "similarities": np.ones((3, 4)),
        "class_names": np.array(["Coat", "Boot"]),
    }
    put(folder, "retrieval", {"precision": 0.4375 + shift}, strips)
    put(folder, "filters", {}, {"conv1": rng.normal(size=(3, 3, 3, 10))})


def fill(workdir):
    """Everything that a finished run leaves."""
    rng = np.random.default_rng(0)
    log(workdir)
    info = {
        "command": ["jaxssl", "train", "--config=configs/a.py", "--workdir=my runs/a"],
        "started": "2026-11-21T09:12:04+00:00",
        "versions": {"jax": "0.10.2"},
        "git": {"commit": "c57a627f3e1ab29d", "dirty": True},
        "devices": {"platform": "cpu", "kind": "cpu", "count": 1, "cpus": 2},
        "host": "secret-host",
        "earlier": [{"command": []}],
    }
    (workdir / "run.json").write_text(json.dumps(info))
    evals = workdir / "evals"
    evaluate(evals, rng)
    evaluate(evals / "random_init", rng, accuracies=RANDOM, shift=-0.125)
    counts = np.full((5, 5), 5) + np.diag([60, 70, 75, 80, 50])
    counts[4, 0] = 30
    looks = {
        "confusion": counts,
        "names": np.array(CLASSES),
        "gallery_original": pictures(rng, 2, 10, 10),
        "gallery": pictures(rng, 2, 5, 8, 8),
    }
    put(evals, "pretext", {"accuracy": 0.7256}, looks)
    put(evals, "shortcut", {"grey": 0.865, "background_only": 0.512})
    return workdir


def label_config(learner, *, noise=None):
    """Settings of a run of chapter 8, for ``start``; its data set is Fashion-MNIST."""
    return {
        "data": "fashion_mnist_10k",
        "method": {"labels": "classes", "crop_size": 28},
        "learner": {"name": learner, "k": 8, "normalize": "l1", "weights": "network"},
        "model": {"features": [256, 256]},
        "noise": {"replacement": "other", "kind": "symmetric", "rate": 0.5}
        | (noise or {}),
        "train": {"num_steps": 400, "batch_size": 64},
        "eval": {"online": {"num_images": 2000}},
    }


def label_log(workdir, *, tests, fit, bilevel, clean=False):
    """Log as training does: tests every 100 steps from 0 on, weights from 100 on."""
    rows = []
    for i, accuracy in enumerate(tests):
        step = 100 * i
        rows.append({"step": step, "test/accuracy": accuracy})
        rows.append({"step": step, **{f"train/{k}": v for k, v in fit.items()}})
        if i:
            rows.append({"step": step, "loss/classifier": 2.0, "acc/classifier": 0.4})
        if i and bilevel:
            told = {"cosine": 0.1, "negative": 0.25, "skipped": 0.0}
            told |= {} if clean else {"clean": 0.11, "corrupted": 0.04}
            bins = dict.fromkeys(range(20), 0.0) | {8: 0.25, 10: 0.25, 11: 0.5}
            rows[-1] |= {f"bilevel/{key}": value for key, value in told.items()}
            rows[-1] |= {f"weights/bin{j:02d}": value for j, value in bins.items()}
            if not clean:  # Half of the steps had no wrong label.
                rows[-1] |= {"weights/has_clean": 1.0, "weights/has_corrupted": 0.5}
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (workdir / "metrics.jsonl").write_text(lines)


def gan(workdir):
    """A run of two players on STL-10; its evaluations have no section of their own."""
    players = {"generator": {"depth": 64}, "discriminator": {"depth": 64}}
    evals = {"fid": {"num_images": 2048}, "samples": {"count": 64}}
    method = {"distortion": "lci"}
    start(workdir, data="tfds:stl10", method=method, eval=evals, **players)
    row = {"loss/generator": 0.7, "loss/discriminator": 0.5, "penalty/gradient": 0.25}
    row |= {"acc/discriminator": 0.75}
    (workdir / "metrics.jsonl").write_text(json.dumps({"step": 1200, **row}) + "\n")
    (workdir / "run.json").write_text('{"command": "jaxssl train"}')
    fid = {"value": 41.2, "unit": "", "higher_is_better": False}
    put_metrics(workdir / "evals", "fid", {"fid": fid})
    images = pictures(np.random.default_rng(0), 5, 4, 4)
    put_metrics(workdir / "evals", "samples", {}, {"images": images})
    return workdir
