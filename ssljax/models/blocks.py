"""How networks run their blocks: in a loop or not, what the backward pass keeps, which branches are left out."""

from collections.abc import Sequence
from typing import Any, Literal, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.ad_checkpoint import checkpoint_name

from ssljax.sharding import all_rows, own_rows
from ssljax.types import Array, PyTree, UserError

Remat = Literal["none", "block", "dots"]


def kept(x: Array) -> Array:
    """x, marked as worth its memory in the backward pass of `remat="dots"`, although no product makes it."""
    return checkpoint_name(x, "kept")


def _products(primitive: Any, *_: Any, **params: Any) -> bool:
    if primitive is lax.conv_general_dilated_p:
        return True
    return primitive is lax.dot_general_p and not any(params["dimension_numbers"][1])  # not each image's own: attention


_POLICIES = {
    "block": None,
    "dots": jax.checkpoint_policies.save_from_both_policies(
        _products, jax.checkpoint_policies.save_only_these_names("kept")
    ),
}


def rematerialized(block: type[nn.Module], remat: Remat) -> Any:
    """The block, called as `block(x, train, ...)`, of which the backward pass keeps less and computes the rest again.

    `none`: all is kept; `block`: the block's input alone; `dots`: the results of products with the weights, too (not on
    a CPU, whose products are not XLA's own).
    Raises UserError for anything else.
    """
    before: dict[Any, Remat] = {False: "none", True: "block"}  # in the runs of earlier versions
    remat = before.get(remat, remat)
    if remat == "none":
        return block
    if remat not in _POLICIES:
        raise UserError(f"remat={remat} is not a policy: choose none, block or dots")
    return nn.remat(block, static_argnums=(2,), policy=_POLICIES[remat])


def drop_path_factors(module: nn.Module, rate: float, blocks: int, batch: int, train: bool) -> Array | list[None]:
    """For each block f32[2, B], the factors of its two branches, image by image: 0 for some, 1 / (1 - rate) for others.

    The rate of a block rises from 0 in the first, in a straight line, to `rate` in the last. None for each, unless with
    `train` and where `apply` is given an rng named "drop_path": a student has one, a teacher has not.

    Raises UserError if `rate` is not in [0, 1).
    """
    if not 0 <= rate < 1:
        raise UserError(f"drop_path={rate} must be a share of the images, in [0, 1), such as 0.1")
    if not (train and rate and module.has_rng("drop_path")):
        return [None] * blocks
    kept_share = 1 - np.linspace(0, rate, blocks, dtype=np.float32)[:, None, None]
    kept = jax.random.bernoulli(module.make_rng("drop_path"), kept_share, (blocks, 2, all_rows(batch)))
    return own_rows(kept, axis=2) / kept_share


def drop_path(y: Array, factors: Array | None) -> Array:
    """A branch y [B, ...] times its images' factors f32[B] (Huang et al. 2016); None leaves it as it is."""
    return y if factors is None else y * factors.astype(y.dtype).reshape(-1, *[1] * (y.ndim - 1))


def in_a_loop(
    turn: Sequence[nn.Module],
    params: Sequence[PyTree],
    x: Array,
    train: bool,
    factors: Array | list[None],
    mask: Array | None = None,
) -> Array:
    """x after blocks that are all like those of `turn`, one turn after the other, with their `params` and `factors`.

    If there is a `mask`, each block gets it.

    It is one loop for the compiler, which sees the blocks of a turn once and not as often as there are turns. The
    blocks of `turn` are bound to no module, and have no variables but parameters.
    """
    stacked = [jax.tree.map(lambda *leaves: jnp.stack(leaves), *params[i :: len(turn)]) for i in range(len(turn))]
    masks: dict[str, Any] = {} if mask is None else {"mask": mask}
    each = None if isinstance(factors, list) else factors.reshape(-1, len(turn), *factors.shape[1:])

    def once(x: Array, own: tuple[list[PyTree], Array | None]) -> tuple[Array, None]:
        for i, block in enumerate(turn):
            own_factors = None if own[1] is None else own[1][i]
            x = cast(Array, block.apply({"params": own[0][i]}, x, train, own_factors, **masks))
        return x, None

    return lax.scan(once, x, (stacked, each))[0]
