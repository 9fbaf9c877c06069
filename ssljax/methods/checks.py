"""What methods refuse before anything is compiled."""

from ssljax.types import Batch, UserError


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


def check_share(field: str, value: float) -> None:
    """Raises UserError unless `value` is a share of training."""
    if not 0 <= value < 1:
        raise UserError(f"{field}={value} must be a share of training, in [0, 1), such as 0.01")
