"""The twin of JAX's convolution under JAX's transformations, and inside of networks."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx
from jax import lax
from jax.sharding import AxisType

from jaxssl import ops
from jaxssl.aot import collectives
from jaxssl.ops.primitive import convolution_p, substitute

NHWC = ("NHWC", "HWIO", "NHWC")


def draw(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def convolve(x, kernel, **options):
    return ops.conv_general_dilated(x, kernel, (1, 1), "SAME", **options)


def stock(x, kernel, **options):
    return lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=NHWC, **options
    )


def test_programs_for_several_platforms_hold_both_forms():
    def loss(x, kernel):
        y = ops.conv_general_dilated(x, kernel, (1, 1), "SAME", feature_group_count=2)
        return jnp.square(y).mean()

    step = jax.jit(jax.value_and_grad(loss, (0, 1)))
    arguments = jnp.ones((2, 8, 8, 8)), jnp.ones((3, 3, 4, 8))
    both = jax.export.export(step, platforms=("cpu", "tpu"))
    module = both(*arguments).mlir_module()
    assert "feature_group_count = 2" in module
    assert "feature_group_count = 1" in module
    value, grads = jax.jit(both(*arguments).call)(*arguments)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5),
        (value, grads),
        step(*arguments),
    )


def gradients_for_gpus(form, groups, mesh, wrap=lambda loss: loss):
    """Return the program of a gradient step, lowered for GPUs in the place of CPUs."""
    over, whole = (jax.NamedSharding(mesh, spec) for spec in (jax.P("d"), jax.P()))

    def loss(x, kernel):
        y = form(x, kernel, feature_group_count=groups)
        return jnp.square(y).mean(keepdims=True)

    def gradients(x, kernel):
        return jax.grad(lambda *both: wrap(loss)(*both).sum(), (0, 1))(x, kernel)

    step = jax.jit(gradients, in_shardings=(over, whole))
    shapes = (8, 8, 8, 8), (3, 3, 8 // groups, 8)
    traced = step.trace(*(jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes))
    return traced.lower(lowering_platforms=("cuda",)).as_text()


def gpus(data, model=1):
    devices = jax.devices()[: data * model]
    types = (AxisType.Auto, AxisType.Auto)
    return jax.make_mesh((data, model), ("d", "m"), types, devices=devices)


def most_groups(module):
    found = re.findall(r"(?:batch|feature)_group_count = (\d)", module)
    return max(map(int, found))


def test_a_program_for_several_gpus_has_no_groups():
    assert most_groups(gradients_for_gpus(convolve, 2, gpus(1))) == 2
    assert most_groups(gradients_for_gpus(convolve, 2, gpus(8))) == 1


def test_a_program_for_several_gpus_is_else_the_stock_one():
    ours, theirs = (gradients_for_gpus(f, 1, gpus(8)) for f in (convolve, stock))
    assert ours == theirs


@pytest.mark.parametrize(("axes", "groups"), [({"d"}, 1), ({"d", "m"}, 2)])
def test_groups_stay_where_each_gpu_has_a_program_of_its_own(axes, groups):
    mesh, over = gpus(4, 2), jax.P("d")
    mapped = functools.partial(
        jax.shard_map,
        mesh=mesh,
        in_specs=(over, jax.P()),
        out_specs=over,
        axis_names=axes,
    )
    assert most_groups(gradients_for_gpus(convolve, 2, mesh, mapped)) == groups


def test_more_than_eight_groups_stay_together_on_gpus(lowered_as_on_gpus):
    step = jax.jit(functools.partial(convolve, feature_group_count=10))
    lowered = step.lower(draw(1, 4, 4, 20), draw(3, 3, 2, 20))
    assert "feature_group_count = 10" in lowered.as_text()


def test_scan_and_remat_and_shard_map_take_it():
    x, kernel = draw(8, 5, 6, 4), draw(3, 3, 4, 6, seed=1)

    def loss(kernel, x):
        y = ops.conv_general_dilated(x, kernel, (2, 1), "SAME")
        return jnp.square(y).sum()

    @jax.jit
    def scanned(kernel, x):
        def body(total, x):
            return total + jax.grad(jax.checkpoint(loss))(kernel, x), None

        total, _ = lax.scan(body, jnp.zeros_like(kernel), x.reshape(4, 2, 5, 6, 4))
        return total

    mesh = jax.make_mesh((4,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))
    over, whole = jax.P("d"), jax.P()

    @jax.jit
    @functools.partial(
        jax.shard_map, mesh=mesh, in_specs=(whole, over), out_specs=whole
    )
    def sharded(kernel, x):
        kernel = lax.pcast(kernel, "d", to="varying")
        return lax.psum(jax.grad(loss)(kernel, x), "d")

    expected = jax.jit(jax.grad(loss))(kernel, x)
    scale = float(jnp.abs(expected).max())
    for total in (scanned(kernel, x), sharded(kernel, x)):
        np.testing.assert_allclose(total / scale, expected / scale, atol=1e-6)


def test_substitute_leaves_other_operations_alone():
    def f(x, kernel):
        y = lax.conv(2.0 * x, kernel, (1, 1), "SAME")
        return jnp.sort(y, axis=-1) + 1.0

    x, kernel = draw(1, 2, 4, 4), draw(3, 2, 3, 3, seed=1)
    program = jax.make_jaxpr(lambda x, k: substitute(f, x, k))(x, kernel)
    names = {str(equation.primitive) for equation in program.eqns}
    assert convolution_p.name in names
    assert "conv_general_dilated" not in names
    np.testing.assert_allclose(substitute(f, x, kernel), f(x, kernel), atol=1e-5)


def test_linen_layer_takes_the_grouped_form():
    layer = nn.Conv(
        8,
        (3, 3),
        feature_group_count=2,
        conv_general_dilated=ops.conv_general_dilated,  # type: ignore[arg-type]
    )
    plain = nn.Conv(8, (3, 3), feature_group_count=2)
    x = draw(2, 5, 5, 4)
    variables = plain.init(jax.random.key(0), x)
    np.testing.assert_allclose(
        layer.apply(variables, x), plain.apply(variables, x), atol=1e-5
    )


def test_it_runs_without_jit():
    x, kernel = draw(1, 4, 7, 2), draw(3, 2, 2, 3, seed=1)

    def loss(kernel):
        return jnp.square(convolve(x, kernel)).sum()

    expected = jax.jit(jax.value_and_grad(loss))(kernel)
    with jax.disable_jit():
        found = jax.value_and_grad(loss)(kernel)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5),
        found,
        expected,
    )


def test_nnx_layer_takes_it():
    """It passes ``out_sharding``, and in low precision ``preferred_element_type``."""
    layers = [
        nnx.Conv(
            4,
            6,
            (3, 3),
            preferred_element_type=jnp.float32,
            rngs=nnx.Rngs(0),
            **form,
        )
        for form in ({"conv_general_dilated": ops.conv_general_dilated}, {})
    ]
    ours, plain = (layer(draw(2, 5, 5, 4)) for layer in layers)
    np.testing.assert_allclose(ours, plain, atol=1e-5)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_sums_in_another_type_come_back_in_it(dtype):
    x, kernel = draw(2, 4, 4, 4).astype(dtype), draw(3, 3, 4, 6, seed=1).astype(dtype)

    def results(form):
        def loss(x, kernel):
            y = form(x, kernel, preferred_element_type=jnp.float32)
            return jnp.square(y).mean(), y

        return jax.jit(jax.grad(loss, (0, 1), has_aux=True))(x, kernel)

    found, expected = results(convolve), results(stock)
    assert found[1].dtype == jnp.float32
    assert [g.dtype for g in found[0]] == [dtype, dtype]
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        a, b = a.astype(jnp.float32), b.astype(jnp.float32)
        np.testing.assert_allclose(a, b, rtol=1e-2, atol=1e-2)


def test_other_types_are_refused_as_by_jax():
    with pytest.raises(TypeError, match="requires arguments to have the same dtypes"):
        convolve(draw(1, 4, 4, 2).astype(jnp.bfloat16), draw(3, 3, 2, 2))


@pytest.mark.parametrize("check_vma", [True, False])
def test_shard_map_takes_a_kernel_that_all_devices_share(check_vma):
    x, kernel = draw(8, 4, 5, 3), draw(3, 3, 3, 4, seed=1)
    mesh = jax.make_mesh((8,), ("d",), axis_types=(AxisType.Auto,))

    def loss(kernel, x):
        return jnp.square(convolve(x, kernel)).sum()

    @jax.jit
    @functools.partial(
        jax.shard_map,
        mesh=mesh,
        in_specs=(jax.P(), jax.P("d")),
        out_specs=jax.P(),
        check_vma=check_vma,
    )
    def gradient(kernel, x):
        def body(total, scale):
            found = jax.grad(loss)(kernel, scale * x)
            return total + (found if check_vma else lax.psum(found, "d")), None

        return lax.scan(body, jnp.zeros_like(kernel), jnp.asarray([0.6, 0.8]))[0]

    expected = jax.grad(loss)(kernel, x)
    np.testing.assert_allclose(gradient(kernel, x), expected, rtol=1e-4, atol=1e-4)


def exchanges_of_a_step(groups):
    """Return the collectives of a gradient step on images that 8 devices share."""
    mesh = jax.make_mesh((8,), ("d",), axis_types=(AxisType.Auto,))
    over, whole = (jax.NamedSharding(mesh, spec) for spec in (jax.P("d"), jax.P()))

    def loss(kernels, x):
        x = convolve(x, kernels[0], feature_group_count=groups)
        x = convolve(x, kernels[1], feature_group_count=groups)
        return jnp.square(x).mean()

    kernels = draw(3, 3, 4 // groups, 6), draw(3, 3, 6 // groups, 6, seed=1)
    step = jax.jit(
        jax.grad(loss), in_shardings=(whole, over), out_shardings=whole
    ).lower(kernels, draw(8, 8, 8, 4))
    return set(collectives.collectives(step.compile().as_text()))


@pytest.mark.parametrize("groups", [1, 2])
def test_sharded_images_need_one_sum_over_devices(groups):
    """No device asks for the images of another."""
    assert exchanges_of_a_step(groups) == {"all-reduce"}


@pytest.mark.parametrize("groups", [1, 2])
def test_sharded_images_need_one_sum_over_gpus(lowered_as_on_gpus, groups):
    """The partitioner that divides a program is the same for CPUs and GPUs."""
    assert exchanges_of_a_step(groups) == {"all-reduce"}


def test_meshes_with_explicit_axes_get_the_stock_form():
    """Their shardings name the axes of the layout that the operands have."""
    mesh = jax.make_mesh((8,), ("d",), axis_types=(AxisType.Explicit,))
    numbers = ("HWNC", "HWIO", "HWNC")
    whole, over = jax.P(None, None, None, None), jax.P(None, None, "d", None)

    def step(form):
        def loss(kernel, x):
            y = form(x, kernel, (1, 1), "SAME", **options)
            return jnp.square(y).sum()

        options = {"dimension_numbers": numbers, "out_sharding": over}
        return jax.jit(jax.value_and_grad(loss, (0, 1)))

    with jax.set_mesh(mesh):
        kernel = jax.device_put(draw(3, 3, 3, 5, seed=1), whole)
        x = jax.device_put(draw(4, 5, 8, 3), over)
        found = step(ops.conv_general_dilated)(kernel, x)
        expected = step(lax.conv_general_dilated)(kernel, x)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-4)
        assert a.sharding == b.sharding


def test_an_axis_without_entries_can_be_mapped():
    y = jax.vmap(convolve, (0, None))(jnp.ones((0, 2, 5, 5, 4)), draw(3, 3, 4, 6))
    assert y.shape == (0, 2, 5, 5, 6)


def test_hessian_is_the_stock_one():
    x, kernel = draw(1, 3, 3, 2), draw(3, 3, 2, 1, seed=1)

    def hessian(form):
        return jax.hessian(lambda kernel: (form(x, kernel) ** 3).sum())(kernel)

    np.testing.assert_allclose(hessian(convolve), hessian(stock), rtol=1e-4, atol=1e-4)
