"""Names of machines, and what is said where one, or its compiler, is not there."""

import pytest

from ssljax.plan import target
from ssljax.plan.targets import CHIPS
from ssljax.types import UserError


@pytest.mark.parametrize(
    "name, chips",
    [
        ("v5e:2x4", 8),
        ("v5p:2x2x1", 4),
        ("v6e:16x16", 256),
        ("v5p:16x16x24", 6144),
        ("h100:8", 8),
        ("a100:16", 16),
        ("h200:1", 1),
    ],
)
def test_a_target_has_as_many_chips_as_its_name_says(name, chips):
    assert target(name).chips == chips


@pytest.mark.parametrize(
    "name, said",
    [
        ("tpu", "on='tpu' is not a known machine: name one of v5e, v5p"),
        ("v5e", "on='v5e' must end in the 2 sides of the slice: try v5e:2x4"),
        ("v5e:2x2x2", "must end in the 2 sides"),
        ("v5p:2x4", "on='v5p:2x4' must end in the 3 sides of the slice: try v5p:2x2x1"),
        ("v5e:0x4", "must end in the 2 sides"),
        ("h100:0", "on='h100:0' must end in the number of GPUs, 1 to 8, or a multiple of 8"),
        ("h100:12", "try h100:8"),
        ("a100:2x4", "must end in the number of GPUs"),
        ("v5e:3x5", "on='v5e:3x5' is not a slice that can be rented: try v5e:4x4"),
        ("v5e:2x6", "try v5e:4x4"),
        ("v5e:4x2", "try v5e:2x4"),
        ("v5e:32x32", "try v5e:16x16"),
        ("v6e:1000x1000", "try v6e:16x16"),
        ("v5p:1x1x1", "try v5p:2x2x1"),
        ("v5p:4x4x5", "try v5p:4x4x4"),
        ("v5p:24x24x24", "try v5p:16x16x24"),
    ],
)
def test_what_is_no_target_is_refused_with_what_would_be(name, said):
    with pytest.raises(UserError) as refused:
        target(name)
    assert said in str(refused.value)


def test_the_slowest_links_are_those_between_machines():
    chip = CHIPS["h100"]
    assert (target("h100:8").links, target("h100:16").links) == (chip.links, chip.network)
    assert target("v5e:16x16").links == CHIPS["v5e"].links


@pytest.mark.parametrize("kind, passes", [("v5e", (1, 1, 3, 6)), ("h100", (1, 2, 2, 15))])
def test_products_in_float32_take_longer_by_their_precision(kind, passes):
    asked = [("bf16", ""), ("f32", ""), ("f32", "operand_precision={high,high}"), ("f32", '["HIGHEST","HIGHEST"]')]
    assert tuple(CHIPS[kind].passes(*one) for one in asked) == passes
