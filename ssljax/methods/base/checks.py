"""What methods refuse before anything is compiled."""

import contextlib
from collections.abc import Iterator
from typing import Any

from ssljax.methods.base.network import Network
from ssljax.types import Array, Batch, PyTree, UserError


def check_pair(batch: Batch) -> None:
    """Raises UserError unless there are exactly two views."""
    count = len(batch["views"])
    if count != 2:
        raise UserError(f"views make {count} views of a photo, and the method compares two: choose TwoCrops")


def check_crops(batch: Batch) -> None:
    """Raises UserError unless there are two global views, and local ones or none."""
    count = len(batch["views"])
    if count < 2:
        raise UserError(f"views make {count} view of a photo, and the method needs two or more: choose MultiCrop")


def check_predictor(network: Network, params: PyTree, stats: PyTree, images: Array) -> None:
    """Raises UserError unless the predictor makes as many numbers as the projector."""
    predicted, projected = (network.width(name, params, stats, images) for name in ("predictor", "projector"))
    if predicted != projected:
        raise UserError(
            f"method.predictor makes {predicted} numbers and method.projector {projected}, which are compared: set "
            f"method.predictor.out={projected}"
        )


def check_share(field: str, value: float) -> None:
    """Raises UserError unless `value` is a share of training."""
    if not 0 <= value < 1:
        raise UserError(f"{field}={value} must be a share of training, in [0, 1), such as 0.01")


def check_labelled_views(count: int | None, batch: Batch) -> None:
    """Raises UserError unless there are as many views."""
    there = len(batch["views"])
    if count is not None and not 1 <= count <= there:
        raise UserError(
            f"method.labelled_views={count} must be from 1 to {there}, the number of views, or None for all"
        )


def check_alike(count: int | None, batches: Any) -> None:
    """Raises UserError if photos would be taken for such of the anchor's class that are not."""
    if not batches.alike and count != 1:
        raise UserError(
            f"method.labelled_views={count} takes the positive and the negative of the sampler's triplets for photos "
            "of the anchor's class: set it to 1, or learn from the triplets by GivenTriplets"
        )


@contextlib.contextmanager
def naming(option: str) -> Iterator[None]:
    """Within it, what a method refuses is told under the name of the option that holds it: "method.beside"."""
    try:
        yield
    except UserError as error:
        raise UserError(str(error).replace("method.", f"{option}.")) from None
