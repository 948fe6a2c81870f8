"""Whether a network reads the object or a shortcut: rotations with parts missing."""

from collections.abc import Mapping, Sequence

import numpy as np

from jaxssl.data.source import Source
from jaxssl.errors import UserError
from jaxssl.evals.extract import PredictFns
from jaxssl.evals.pretext import PretextConfig, make_pretext
from jaxssl.types import SHARE, Eval, EvalResult, Float, Metric, TrainState

ROTATIONS = ("none", "rot90", "rot180", "rot270")


def restricted_accuracy(
    logits: Float[np.ndarray, "n k k"], classes: Sequence[int]
) -> float:
    """Return the accuracy where both truth and choice are among ``classes``.

    With the four rotations it asks which way up an image is, whatever else the network
    was trained to tell; chance is one in ``len(classes)``.

    Args:
      logits: (image, applied transformation, class).
      classes: indices into the classes.

    Returns:
      A number in [0, 1].
    """
    chosen = logits[:, classes][:, :, classes].argmax(axis=-1)
    return float((chosen == np.arange(len(classes))[None]).mean())


def shortcut_eval(
    predict_fns: PredictFns,
    sources: Mapping[str, Source],
    names: Sequence[str],
    config: PretextConfig,
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
      An evaluation whose metrics are accuracies by name of source.

    Raises:
      UserError: fewer than two of the transformations are rotations.
    """
    classes = [i for i, name in enumerate(names) if name in ROTATIONS]
    if len(classes) < 2:
        raise UserError(
            f"shortcut needs two of {', '.join(ROTATIONS)} among the classes; "
            f"got {', '.join(names)}. Leave this evaluation out."
        )
    pretext = make_pretext(predict_fns["pretext"], config)

    def run(state: TrainState) -> EvalResult:
        metrics = {}
        for name, source in sources.items():
            logits = pretext(state, source).outputs["logits"]
            accuracy = restricted_accuracy(logits, classes)
            metrics[name] = Metric(accuracy, SHARE, True, chance=1 / len(classes))
        return EvalResult(metrics, {})

    return run
