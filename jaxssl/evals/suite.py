"""Evaluations ready to run: functions of the state, closed over data and settings.

An experiment makes one `FeatureBank` and lends it to every evaluation on frozen
features, so that each image goes through the network once a state. Everything is
compiled at the first call and reused for later states of the same shapes.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxssl.data.source import Source
from jaxssl.errors import UserError
from jaxssl.evals import classification, knn, pretext, retrieval
from jaxssl.evals.features import FeatureBank
from jaxssl.types import Eval, EvalResult, TrainState

PredictFns = Mapping[str, Callable[..., Any]]

ROTATIONS = ("none", "rot90", "rot180", "rot270")

# --- On frozen features


def linear_probe_eval(
    bank: FeatureBank,
    train_source: Source,
    test_source: Source,
    config: classification.LinearProbeConfig,
    *,
    views: str = "center",
) -> Eval:
    """Measure the cached linear probe of every endpoint.

    Args:
      bank: where features come from.
      train_source: images that the classifiers learn from.
      test_source: images that they are tested on.
      config: how they are fitted.
      views: crops of a test image whose softmax outputs are averaged.

    Returns:
      An evaluation whose scalars are accuracies by endpoint.
    """

    def run(state: TrainState) -> EvalResult:
        test = bank(state, test_source, views=views)
        accuracies = classification.linear_probes(
            bank(state, train_source), test, config=config
        )
        return EvalResult(accuracies, {})

    return run


def few_shot_eval(
    bank: FeatureBank,
    train_source: Source,
    test_source: Source,
    config: classification.FewShotConfig,
) -> Eval:
    """Measure the ridge classifier from a few labels; cheap enough for every epoch.

    Args:
      bank: where features come from.
      train_source: where the labelled images are drawn from.
      test_source: images that the classifier is tested on.
      config: shots, draws and penalty.

    Returns:
      An evaluation whose scalars are ``<endpoint>`` and, of several draws, ``<endpoint>_sd``.
    """

    def run(state: TrainState) -> EvalResult:
        train, test = bank(state, train_source), bank(state, test_source)
        scalars = {}
        for endpoint, found in classification.few_shot(
            train, test, config=config
        ).items():
            scalars[endpoint] = found.mean
            if config.num_draws > 1:
                scalars[f"{endpoint}_sd"] = found.deviation
        return EvalResult(scalars, {})

    return run


def knn_eval(
    bank: FeatureBank,
    train_source: Source,
    test_source: Source,
    config: knn.KnnConfig,
) -> Eval:
    """Measure nearest-neighbour classification, held-out and leave-one-out.

    Args:
      bank: where features come from.
      train_source: the neighbours of the held-out accuracies.
      test_source: images to classify; among themselves for leave-one-out.
      config: numbers of neighbours, endpoint and crops.

    Returns:
      An evaluation whose scalars are ``k<k>`` and ``loo_k<k>``.
    """

    def run(state: TrainState) -> EvalResult:
        train = bank(state, train_source, views=config.views)
        test = bank(state, test_source, views=config.views)
        held_out = knn.knn(train, test, config=config)
        left_out = knn.leave_one_out_knn(test, config=config)
        scalars = {f"k{k}": value for k, value in held_out.items()}
        scalars |= {f"loo_k{k}": value for k, value in left_out.items()}
        return EvalResult(scalars, {})

    return run


def retrieval_eval(
    bank: FeatureBank,
    query_source: Source,
    source: Source,
    config: retrieval.RetrievalConfig,
) -> Eval:
    """Find the nearest images of some queries, for the report.

    Args:
      bank: where features come from.
      query_source: where the queries are drawn from.
      source: where their neighbours are searched; may be the same object.
      config: how many, and by which endpoint.

    Returns:
      An evaluation with the scalar ``precision`` and the images, labels, similarities
      and class names as arrays.
    """

    def run(state: TrainState) -> EvalResult:
        found = retrieval.retrieve(
            query_source,
            bank(state, query_source),
            source,
            bank(state, source),
            config=config,
        )
        arrays = {
            "query_images": found.queries,
            "query_labels": found.query_labels,
            "neighbor_images": found.neighbors,
            "neighbor_labels": found.neighbor_labels,
            "similarities": found.similarities,
            "class_names": np.array(source.class_names, dtype=np.str_),
        }
        return EvalResult({"precision": found.precision}, arrays)

    return run


def attributes_eval(
    bank: FeatureBank,
    train_source: Source,
    test_source: Source,
    config: classification.LinearProbeConfig,
) -> Eval:
    """Measure the average precision of linear classifiers of attributes (Table 4.3).

    Args:
      bank: where features come from.
      train_source: images with several 0/1 labels, as CelebA has.
      test_source: images that the classifiers are tested on.
      config: how they are fitted.

    Returns:
      An evaluation whose scalars are the mean over attributes by endpoint, whose arrays
      hold each attribute's by endpoint, and their ``names``.
    """

    def run(state: TrainState) -> EvalResult:
        precisions = classification.attribute_probes(
            bank(state, train_source), bank(state, test_source), config=config
        )
        scalars = {endpoint: float(np.nanmean(x)) for endpoint, x in precisions.items()}
        names = np.array(test_source.class_names, dtype=np.str_)
        return EvalResult(scalars, {**precisions, "names": names})

    return run


# --- On the pretext task


def pretext_eval(
    predict_fns: PredictFns,
    source: Source,
    names: Sequence[str],
    config: pretext.PretextConfig,
) -> Eval:
    """Count which transformation is taken for which, on held-out images.

    Args:
      predict_fns: of the task; needs ``pretext``.
      source: held-out images.
      names: the transformations in label order.
      config: batches and examples.

    Returns:
      An evaluation with the scalars ``accuracy`` and one by transformation, and the
      arrays ``confusion``, ``names``, ``gallery_original`` and ``gallery``.
    """
    look = pretext.make_pretext(predict_fns["pretext"], config)

    def run(state: TrainState) -> EvalResult:
        seen = look(state, source)
        counts = pretext.confusion(seen.logits)
        shares = np.diag(counts) / counts.sum(axis=1)
        by_name = zip(names, map(float, shares), strict=True)
        arrays = {
            "confusion": counts,
            "names": np.array(names, dtype=np.str_),
            "gallery_original": seen.originals,
            "gallery": seen.transformed,
        }
        return EvalResult({"accuracy": float(shares.mean()), **dict(by_name)}, arrays)

    return run


def shortcut_eval(
    predict_fns: PredictFns,
    sources: Mapping[str, Source],
    names: Sequence[str],
    config: pretext.PretextConfig,
) -> Eval:
    """Ask which way up an image is where parts of it are missing.

    A network that reads the object tells rotations of objects on plain grey, and cannot
    tell rotations of backgrounds alone. Only the rotations among ``names`` are asked
    for and counted as answers.

    Args:
      predict_fns: of the task; needs ``pretext``.
      sources: images by name: ``composite``, ``grey``, ``background_only``.
      names: the transformations in label order.
      config: batches and seed.

    Returns:
      An evaluation whose scalars are accuracies by name of source.

    Raises:
      UserError: fewer than two of the transformations are rotations.
    """
    classes = [i for i, name in enumerate(names) if name in ROTATIONS]
    if len(classes) < 2:
        raise UserError(
            f"shortcut needs two of {', '.join(ROTATIONS)} among the classes; "
            f"got {', '.join(names)}. Leave this evaluation out."
        )
    look = pretext.make_pretext(predict_fns["pretext"], config)

    def run(state: TrainState) -> EvalResult:
        scalars = {
            name: pretext.restricted_accuracy(look(state, source).logits, classes)
            for name, source in sources.items()
        }
        return EvalResult(scalars, {})

    return run


# --- Of the parameters


def filters_eval(player: str, path: Sequence[str], name: str = "conv1") -> Eval:
    """Return the kernels of one layer, for the report.

    Args:
      player: whose parameters.
      path: keys that lead to the kernel (h, w, c, d).
      name: what the array is called.

    Returns:
      An evaluation without scalars.
    """

    def run(state: TrainState) -> EvalResult:
        kernel = state.params[player]
        for key in path:
            kernel = kernel[key]
        return EvalResult({}, {name: np.asarray(jax.device_get(kernel))})

    return run
