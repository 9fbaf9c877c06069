"""FLOPs of traced steps, against numbers counted by hand."""

import jax
import jax.numpy as jnp
import pytest

from ssljax.losses import blockwise
from ssljax.plan.arithmetic import arithmetic, part_of
from ssljax.sharding import make_mesh

X, W = jax.ShapeDtypeStruct((8, 16), jnp.float32), jax.ShapeDtypeStruct((16, 16), jnp.float32)
PRODUCT = 2 * 8 * 16 * 16


def counted(f, *args) -> dict[str, float]:
    return arithmetic(jax.jit(f).trace(*args).jaxpr.jaxpr)


def test_parts_are_told_by_the_scopes():
    assert part_of("jit(train_step)/views/dot_general") == "views"
    assert part_of("jit(train_step)/transpose(jvp(network))/ResNet/conv") == "student"
    assert part_of("jit(train_step)/jvp(teacher)/network/ResNet/conv") == "teacher"
    assert part_of("jit(train_step)/optimizer/mul") == "optimizer"
    assert part_of("jit(train_step)/jvp()/views_of_it/dot") == part_of("") == "loss"


def test_a_forward_and_a_backward_pass_are_three_products():
    def loss(x, w):
        with jax.named_scope("network"):
            return jnp.sum((x @ w) ** 2)

    assert counted(jax.value_and_grad(loss, (0, 1)), X, W) == {"student": 3 * PRODUCT}


def test_what_is_computed_again_to_save_memory_does_not_count():
    def block(x, w):
        return jnp.tanh(jnp.tanh(x @ w) @ w)

    plain = counted(jax.value_and_grad(lambda x, w: jnp.sum(block(x, w))), X, W)
    again = counted(jax.value_and_grad(lambda x, w: jnp.sum(jax.checkpoint(block)(x, w))), X, W)
    assert plain == again == {"loss": 4 * PRODUCT}


def test_a_gradient_that_nobody_asks_for_does_not_count():
    @jax.custom_vjp
    def product(x, w):
        return x @ w

    product.defvjp(lambda x, w: (x @ w, (x, w)), lambda kept, g: (g @ kept[1].T, kept[0].T @ g))
    needed = jax.grad(lambda x, w: jnp.sum(product(x, w)))
    assert counted(jax.value_and_grad(lambda x, w: jnp.sum(product(x, w))), X, W) == {"loss": 2 * PRODUCT}

    def repeated(x, w, n):
        return jax.lax.fori_loop(0, n, lambda i, x: x + product(x, w) + needed(x, w), x)

    assert counted(repeated, X, W, jax.ShapeDtypeStruct((), jnp.int32)) == {"loss": 2 * PRODUCT}


def test_a_loop_counts_as_often_as_it_runs_and_of_branches_the_dearest():
    assert counted(lambda x, w: jax.lax.fori_loop(0, 5, lambda i, x: x @ w, x), X, W) == {"loss": 5 * PRODUCT}
    branches = [lambda x, w: x, lambda x, w: x @ w @ w]
    assert counted(lambda x, w: jax.lax.cond(x[0, 0] > 0, *branches, x, w), X, W) == {"loss": 2 * PRODUCT}


def test_a_convolution_and_its_gradients_are_three_convolutions():
    x, k = jax.ShapeDtypeStruct((2, 9, 9, 4), jnp.float32), jax.ShapeDtypeStruct((3, 3, 4, 8), jnp.float32)

    def conv(x, k):
        dims = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(x, k, (2, 2), ((1, 1), (1, 1)), dimension_numbers=dims)

    forward = 2 * 2 * 8 * 4 * (3 * 5 - 2) ** 2
    assert counted(conv, x, k) == {"loss": forward}
    assert counted(jax.grad(lambda x, k: jnp.sum(conv(x, k) ** 2), (0, 1)), x, k) == {
        "loss": pytest.approx(3 * forward)
    }


def test_what_is_per_device_counts_on_every_device():
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    spec = jax.sharding.PartitionSpec
    each = jax.shard_map(lambda x, w: x @ w, mesh=mesh, in_specs=(spec("data"), spec()), out_specs=spec("data"))
    assert counted(each, X, W) == {"loss": PRODUCT}


@pytest.mark.parametrize("block", [2**20, 16], ids=["one block", "many"])
@pytest.mark.parametrize("devices", [1, 8])
def test_losses_in_blocks_count_as_dense_ones(monkeypatch, block, devices):
    monkeypatch.setattr(blockwise, "BLOCK", block)
    rows, columns = (jax.ShapeDtypeStruct((n, 4), jnp.float32) for n in (16, 32))

    def in_blocks(x, y):
        return jnp.sum(blockwise.logsumexp_of_products(x, y))

    def dense(x, y):
        return jnp.sum(jax.nn.logsumexp(x @ y.T, axis=1))

    with jax.set_mesh(make_mesh(devices=jax.devices()[:devices])):
        for sides in (0, (0, 1)):
            both = (counted(jax.value_and_grad(loss, sides), rows, columns) for loss in (in_blocks, dense))
            assert next(both) == next(both) == {"loss": (2 if sides == 0 else 3) * 2 * 16 * 32 * 4}
