"""FLOPs that a step's arithmetic needs, counted on what is traced, before a compiler divides or repeats anything.

Matrix products and convolutions count, two FLOPs for each multiplication, as the literature counts a network's. What
is computed again to save memory (`jax.checkpoint`, and losses in blocks) does not, nor a sum made by a product.
"""

import math
import re
from collections import defaultdict
from typing import Any

from jax.interpreters import partial_eval

from ssljax.models.tpu import SUM
from ssljax.plan.hlo import attention_flops, valid_positions

PARTS = ("views", "student", "teacher", "loss", "optimizer")
REPEATED = "rematted_computation"


def part_of(scopes: str) -> str:
    """The part of a step that an operation belongs to, by its scopes, such as jit(train_step)/views/dot_general."""
    names = set(re.split(r"[/()]+", scopes))
    for name in ("views", "optimizer", "teacher"):
        if name in names:
            return name
    return "student" if "network" in names else "loss"


def arithmetic(jaxpr: Any) -> dict[str, float]:
    """Part → FLOPs of a traced step (a jaxpr), over all devices.

    A gradient that nobody asks for is traced, but never computed, and does not count.
    """
    return _count(jaxpr, "")


def _count(jaxpr: Any, scopes: str) -> dict[str, float]:
    counted: dict[str, float] = defaultdict(float)
    live, _ = partial_eval.dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))  # of loops JAX leaves the bodies as they are
    for eqn in live.eqns:
        name = f"{scopes}/{eqn.source_info.name_stack}"
        if REPEATED not in name and SUM not in name:
            counted[part_of(name)] += _flops(eqn)
        inner = [_count(j, name) for j in _inside(eqn)]
        if eqn.primitive.name == "cond":  # one branch runs
            inner = [max(inner, key=lambda branch: sum(branch.values()))]
        for part in inner:
            for key, flops in part.items():
                counted[key] += flops * _repeats(eqn)
    return {part: flops for part, flops in counted.items() if flops}


def _inside(eqn: Any) -> list[Any]:
    """The jaxprs that an equation calls; not those of a kernel, which says itself what it computes."""
    if eqn.primitive.name == "pallas_call":
        return []
    values = [p for value in eqn.params.values() for p in (value if isinstance(value, tuple | list) else [value])]
    return [getattr(p, "jaxpr", p) for p in values if hasattr(getattr(p, "jaxpr", p), "eqns")]


def _repeats(eqn: Any) -> float:
    """How often what an equation calls runs: the length of a loop, or the devices of what is per device."""
    if eqn.primitive.name == "scan":
        return eqn.params["length"]
    if eqn.primitive.name == "shard_map":
        return eqn.params["mesh"].size
    return 1


def _flops(eqn: Any) -> float:
    if eqn.primitive.name == "dot_general":
        (contracted, _), _ = eqn.params["dimension_numbers"]
        lhs = eqn.invars[0].aval.shape
        return 2.0 * math.prod(eqn.outvars[0].aval.shape) * math.prod(lhs[axis] for axis in contracted)
    if eqn.primitive.name == "pallas_call":
        return float(eqn.params["cost_estimate"].flops) if eqn.params["cost_estimate"] else 0.0
    if eqn.primitive.name.startswith("dot_product_attention"):  # cuDNN's, of [B, N, heads, C]
        query, key = (x.aval.shape for x in eqn.invars[:2])
        return attention_flops(math.prod(query), key[1], backward="bwd" in eqn.primitive.name)
    if eqn.primitive.name != "conv_general_dilated":
        return 0.0
    p = eqn.params
    lhs_spec, rhs_spec, out_spec = p["dimension_numbers"]
    lhs, rhs, out = (x.aval.shape for x in (*eqn.invars, *eqn.outvars))
    positions = 1
    for axis, (n, window, outputs) in enumerate(zip(lhs_spec[2:], rhs_spec[2:], out_spec[2:], strict=True)):
        positions *= valid_positions(
            *(lhs[n], rhs[window], out[outputs], p["window_strides"][axis]),
            *(p["padding"][axis][0], p["lhs_dilation"][axis], p["rhs_dilation"][axis]),
        )
    return 2.0 * positions * lhs[lhs_spec[0]] / p["batch_group_count"] * rhs[rhs_spec[1]] * out[out_spec[1]]
