"""Collectives in HLO text and arithmetic in jaxprs, against counts by hand."""

import functools

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from jaxssl import ops
from jaxssl.aot import collectives, flops
from jaxssl.distributed import mesh as meshes

TPU = """\
HloModule jit_f, is_scheduled=true

%add (x: f32[], y: f32[]) -> f32[] {
  %x = f32[]{:T(128)} parameter(0)
  %y = f32[]{:T(128)} parameter(1)
  ROOT %s = f32[]{:T(128)} add(%x, %y)
}

%all-reduce-scatter.1 (p: f32[8,16]) -> f32[2,16] {
  %p = f32[8,16]{1,0:T(8,128)} parameter(0)
  %ar = f32[8,16]{1,0:T(8,128)} all-reduce(%p), replica_groups={}, to_apply=%add
  ROOT %ds = f32[2,16]{1,0:T(8,128)} dynamic-slice(%ar, %p)
}

%cond (c: (s32[], bf16[4,4])) -> pred[] {
  %limit = s32[]{:T(128)} constant(6)
  %c = (s32[]{:T(128)}, bf16[4,4]{1,0}) parameter(0)
  %i = s32[]{:T(128)} get-tuple-element(%c), index=0
  ROOT %lt = pred[]{:T(512)} compare(%i, %limit), direction=LT
}

%body (b: (s32[], bf16[4,4])) -> (s32[], bf16[4,4]) {
  %b = (s32[]{:T(128)}, bf16[4,4]{1,0}) parameter(0)
  %w = bf16[4,4]{1,0} get-tuple-element(%b), index=1
  %r = bf16[4,4]{1,0:T(8,128)S(1)} all-reduce(%w), channel_id=1, to_apply=%add
  ROOT %t = (s32[]{:T(128)}, bf16[4,4]{1,0}) tuple(%w, %r)
}

ENTRY %main (a: f32[8,16], b: bf16[4,4]) -> f32[2,16] {
  %a = f32[8,16]{1,0:T(8,128)} parameter(0)
  %q = bf16[4,4]{1,0} parameter(1)
  %z = (s32[]{:T(128)}, /*index=1*/bf16[4,4]{1,0}) tuple(%q)
  %loop = (s32[]{:T(128)}, bf16[4,4]{1,0}) while(%z), condition=%cond, body=%body
  %g = (bf16[4,4]{1,0}, bf16[32,4]{1,0}) all-gather-start(%q), dimensions={0}
  %gd = bf16[32,4]{1,0} all-gather-done(%g)
  %rs = f32[2,16]{1,0} fusion(%a), kind=kCustom, calls=%all-reduce-scatter.1
  %real = f32[1,16]{1,0} reduce-scatter(%a), dimensions={0}, to_apply=%add
  %two = (f32[8,16]{1,0}, f32[3]{0}) all-reduce(%a, %q), to_apply=%add
  %out = (f32[2,16]{1,0}, u32[], token[]) send(%rs, %gd), channel_id=5
  %done = token[] send-done(%out), channel_id=5
  ROOT %y = f32[2,16]{1,0} copy(%rs), metadata={op_name="all-to-all(%rs)"}
}
"""


def test_collectives_of_a_text_by_hand():
    assert collectives.collectives(TPU) == {
        "all-reduce": (6 + 1, 6 * 32 + 8 * 16 * 4 + 3 * 4),
        "all-gather": (1, 32 * 4 * 2),
        "reduce-scatter": (2, 2 * 8 * 16 * 4),
        "send": (1, 2 * 16 * 4 + 32 * 4 * 2),
    }


def test_a_known_number_of_rounds_wins():
    known = ', backend_config={"known_trip_count":{"n":"9"}}'
    text = TPU.replace("body=%body", f"body=%body{known}")
    assert collectives.collectives(text)["all-reduce"].count == 9 + 1


def test_a_loop_of_unknown_length_counts_once():
    text = TPU.replace("%limit = s32[]{:T(128)} constant(6)", "%limit = s32[] copy(%z)")
    assert collectives.collectives(text)["all-reduce"].count == 1 + 1


CHAIN = """
%first (p: f32[2,16]) -> f32[8,16] {
  %p = f32[2,16]{1,0} parameter(0)
  ROOT %g.1 = f32[8,16]{1,0} all-gather(%p), channel_id=76, FRONT, backend_config={}
}

%second (q: f32[2,16]) -> f32[8,16] {
  %q = f32[2,16]{1,0} parameter(0)
  ROOT %g.2 = f32[8,16]{1,0} all-gather(%q), channel_id=76, FRONT, backend_config={}
}

ENTRY %main (a: f32[2,16]) -> f32[8,16] {
  %a = f32[2,16]{1,0} parameter(0)
  %b = f32[8,16]{1,0} fusion(%a), kind=kCustom, calls=%first
  ROOT %c = f32[8,16]{1,0} fusion(%a), kind=kOutput, calls=%second
}
"""


def test_a_collective_that_is_done_piece_by_piece_counts_once():
    """As libtpu writes it: one channel and chain in each piece of work beside it."""
    chained = 'dimensions={0}, frontend_attributes={chain_id="1"}'
    text = CHAIN.replace("FRONT", chained)
    assert collectives.collectives(text) == {"all-gather": (1, 8 * 16 * 4)}
    text = CHAIN.replace("FRONT", "dimensions={0}")
    assert collectives.collectives(text) == {"all-gather": (2, 2 * 8 * 16 * 4)}


def test_pieces_in_a_loop_count_once_a_round():
    chained = 'dimensions={0}, frontend_attributes={chain_id="1"}'
    pieces = CHAIN.replace("FRONT", chained).replace("ENTRY %main", "%body")
    loop = """
ENTRY %main (p: f32[2,16]) -> f32[8,16] {
  %p = f32[2,16]{1,0} parameter(0)
  ROOT %w = f32[8,16]{1,0} while(%p), condition=%c, body=%body, "known_trip_count":"7"
}
"""
    text = pieces + loop
    assert collectives.collectives(text) == {"all-gather": (7, 7 * 8 * 16 * 4)}


def compiled_text(function, *shapes, out):
    mesh = meshes.make_mesh(meshes.MeshConfig())
    rows, whole = meshes.split(mesh), meshes.replicated(mesh)
    args = [jax.ShapeDtypeStruct(s, jnp.float32, sharding=rows) for s in shapes]
    places = {"whole": whole, "rows": rows}[out]
    return jax.jit(function, out_shardings=places).lower(*args).compile().as_text()


def test_a_real_sum_and_a_real_gathering():
    text = compiled_text(lambda x: x.sum(0), (16, 32), out="whole")
    assert collectives.collectives(text) == {"all-reduce": (1, 32 * 4)}
    text = compiled_text(lambda x: 2 * x, (16, 32), out="whole")
    assert collectives.collectives(text) == {"all-gather": (1, 16 * 32 * 4)}
    assert (
        collectives.collectives(compiled_text(lambda x: 2 * x, (16, 32), out="rows"))
        == {}
    )


def test_a_real_loop_is_multiplied_out():
    def repeat(x):
        return lax.fori_loop(0, 5, lambda _, y: y + (x + y).sum(0)[None], x)

    text = compiled_text(repeat, (16, 32), out="rows")
    assert collectives.collectives(text) == {"all-reduce": (5, 5 * 32 * 4)}


# --- Arithmetic


def work(function, *shapes):
    args = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    return flops.count(jax.make_jaxpr(function)(*args).jaxpr)


def by_xla(function, *shapes):
    args = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    return jax.jit(function).lower(*args).compile().cost_analysis()["flops"]


def test_products_by_hand():
    assert work(jnp.dot, (5, 7), (7, 3)) == (2 * 5 * 7 * 3,) * 2
    batched = functools.partial(jnp.einsum, "bij,bjk->bik")
    assert work(batched, (4, 5, 7), (4, 7, 3)) == (4 * 2 * 5 * 7 * 3,) * 2


def test_loops_branches_and_calls():
    def body(x, w):
        return jnp.tanh(x @ w), None

    def repeat(x, w):
        return lax.scan(jax.checkpoint(body), x, w)[0]

    one = 2 * 8 * 4 * 4
    assert work(repeat, (8, 4), (6, 4, 4)) == (6 * one, one)

    def branch(x, w):
        return lax.cond(x.sum() > 0, lambda: x @ w @ w, lambda: x @ w)

    assert work(jax.jit(branch), (8, 4), (4, 4)) == (2 * one, 2 * one)


def pairs_by_loops(length, taps, stride, low, high, hole, step):
    """Count pairs of a pixel and a tap along one axis, one by one."""
    padded = [None] * low
    for i in range(length):
        padded += [i] + [None] * (hole - 1 if i < length - 1 else 0)
    padded += [None] * high
    reach = (taps - 1) * step
    return sum(
        padded[start + tap * step] is not None
        for start in range(0, len(padded) - reach, stride)
        for tap in range(taps)
    )


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize(
    ("stride", "low", "high", "hole", "step"),
    [(1, 1, 1, 1, 1), (2, 0, 1, 1, 1), (1, 2, 2, 2, 1), (3, 2, 0, 1, 2)],
)
def test_convolutions_by_loops(groups, stride, low, high, hole, step):
    def convolve(x, kernel):
        return ops.conv_general_dilated(
            x, kernel, (stride, 1), [(low, high), (0, 0)],
            lhs_dilation=(hole, 1), rhs_dilation=(step, 1),
            feature_group_count=groups,
        )  # fmt: skip

    counted = work(convolve, (2, 9, 6, 4), (3, 2, 4 // groups, 10))
    pairs = pairs_by_loops(9, 3, stride, low, high, hole, step) * 5 * 2
    assert counted.total == 2 * 2 * 10 * (4 // groups) * pairs


def test_gradients_of_a_network_agree_with_xla():
    def loss(kernel, head, x):
        y = lax.conv_general_dilated(
            x, kernel, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        return jnp.sum((y.reshape(len(x), -1) @ head) ** 2)

    shapes = (5, 5, 3, 16), (16 * 64, 10), (8, 16, 16, 3)
    gradient = jax.value_and_grad(loss, argnums=(0, 1, 2))
    counted = work(gradient, *shapes).total
    # XLA counts additions of all kinds, too; here they are few.
    assert counted == pytest.approx(by_xla(gradient, *shapes), rel=0.02)
