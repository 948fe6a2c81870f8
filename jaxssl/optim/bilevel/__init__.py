"""Deep bilevel learning: weigh mini-batch gradients by how they agree.

S. Jenni and P. Favaro, "Deep Bilevel Learning", ECCV 2018; thesis chapter 8. Of k
mini-batches with the same labels, one (number 0) plays the validation set. The others
are weighted by how well a small step along their gradients does on it: gradients that
agree with the validation gradient count much, gradients that disagree are ascended.
What most mini-batches agree on is what generalises; labels that are wrong at random are
memorised late, if at all. Any optimizer takes the weighted gradient.

| thesis | code | what it is |
|---|---|---|
| k | ``k`` | mini-batches of a step: 1 for validation, n = k - 1 for training |
| nabla l_j, j in V | ``g_v`` | gradient of mini-batch 0; never applied itself |
| nabla l_i, i in T | ``g_i`` | gradient of a training mini-batch |
| omega_i, omega-hat_i | ``raw``, ``weights`` | its weight, before and after |w|_1 = 1 |
| lambda-hat | ``lam`` | 1: weight of the proximal term, divides |g_i|^2 |
| mu-hat | ``mu`` | 0.01: spread of the weights |

    (8.8)   0 = -<g_v, g_i> + sum_k w_k <g_k, g_i> / lam + mu w_i    solver="exact"
    (8.10)  w_i = <g_v, g_i> / (|g_i|^2 / lam + mu)                  solver="diagonal"
            w <- w / |w|_1                                           normalize="l1"
    (8.11)  theta <- theta - epsilon sum_i w_i g_i                   any optimizer

Three entrances, from the whole to the parts: `value_and_grad` computes the weighted
gradient of a loss and stores no more than a few gradients; `scale_by_agreement` is an
optax transformation for gradients that are stacked already; `solve_weights` is
eq. 8.10 on numbers. `LabelMatchedSampler` draws the mini-batches.

Where the thesis and the released code differ, or leave a choice:

- The thesis sums the loss over a mini-batch (eq. 8.1), the code averages. Averages are
  meant here: with sums, mu is relatively B^2 times smaller.
- Weight decay is added after the weighting, so that it does not enter <g_v, g_i>.
- Both divide 0 by 0 if no mini-batch has a weight; here ``on_zero`` decides.
- Batch norm sees one mini-batch at a time, and its averages move k times a step, as in
  the code, with ``reduce_state="sequential"``.
- The thesis' baseline drops the same units in all k mini-batches (``rng_mode`` is
  "shared"); the code draws anew for each ("split", ablation d of table 8.1).
"""

from jaxssl.optim.bilevel.agreement import (
    AgreementState,
    bilevel_sgd,
    scale_by_agreement,
)
from jaxssl.optim.bilevel.gradients import (
    mean_value_and_grad,
    split_batch,
    value_and_grad,
)
from jaxssl.optim.bilevel.groups import by_layer
from jaxssl.optim.bilevel.sampler import LabelMatchedSampler
from jaxssl.optim.bilevel.weights import Info, solve_weights

__all__ = [
    "AgreementState",
    "Info",
    "LabelMatchedSampler",
    "bilevel_sgd",
    "by_layer",
    "mean_value_and_grad",
    "scale_by_agreement",
    "solve_weights",
    "split_batch",
    "value_and_grad",
]
