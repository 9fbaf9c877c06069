"""What would fit: the largest batch, and settings with which a step takes less memory. Each try is a compilation."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

from ssljax.config import Experiment
from ssljax.plan.programs import Work
from ssljax.plan.targets import Target
from ssljax.types import UserError

FINE = 16  # the largest batch is told to a 16th of itself
PARTS_OF_A_BATCH = (2, 4, 8, 16)


@dataclasses.dataclass(frozen=True)
class Remedy:
    """A change of an experiment, and what the step needs with it."""

    options: str
    """as the command line has it"""
    needed: float
    """bytes of a device"""
    fits: bool


def largest_batch(experiment: Experiment, target: Target, photos: int | None, say: Callable[[str], None]) -> int | None:
    """The largest batch size whose step fits, to a sixteenth of itself; None if not even one photo a chip does.

    What a batch needs grows nearly in proportion, so that a few tries suffice. Sizes that the experiment itself refuses
    (a queue that is no multiple of the batch, say) count as too large.
    """
    fits, too_large = 0, None
    tried: dict[int, float] = {}
    size = experiment.batch_size
    while True:
        needed = _needed(dataclasses.replace(experiment, batch_size=size), target, photos)
        if needed is not None:
            tried[size] = needed
        say(f"batch_size={size} " + ("is refused" if needed is None else f"needs {needed / 2**30:.2f} GiB"))
        if needed is not None and needed <= target.chip.memory:
            fits = size
        else:
            too_large = size
        if too_large is not None and too_large - fits <= max(target.chips, fits // FINE):
            return fits or None
        size = _next(fits, too_large, tried, target)


def _next(fits: int, too_large: int | None, tried: dict[int, float], target: Target) -> int:
    """The size to try: where the line through what was tried meets the memory, within what is not decided yet."""
    most = 8 * fits if too_large is None else too_large
    guess, known = (fits + most) // 2, sorted(tried)[-2:]
    if len(known) == 2 and tried[known[0]] < tried[known[1]]:
        slope = (tried[known[1]] - tried[known[0]]) / (known[1] - known[0])
        guess = int(known[0] + (target.chip.memory - tried[known[0]]) / slope)
    margin = max((most - fits) // 8, target.chips)  # from both ends, so that few tries are needed in any case
    return min(max(guess, fits + margin), most - margin) // target.chips * target.chips


def remedies(
    experiment: Experiment, target: Target, photos: int | None, say: Callable[[str], None]
) -> tuple[Remedy, ...]:
    """What the step needs with each change of settings that takes less memory."""
    found = []
    for options, changed in _changes(experiment, target):
        needed = _needed(changed, target, photos)
        if needed is not None:
            found.append(Remedy(options, needed, needed <= target.chip.memory))
            say(f"{options} needs {needed / 2**30:.2f} GiB")
    return tuple(found)


def _changes(experiment: Experiment, target: Target) -> Iterator[tuple[str, Experiment]]:
    for field, value in (("remat", "block"), ("dtype", "bfloat16")):
        method = with_setting(experiment.method, field, value)
        if method is not experiment.method:
            yield f"{field}={value} of all modules", dataclasses.replace(experiment, method=method)
    if experiment.shards < target.chips:
        yield f"--shards {target.chips}", dataclasses.replace(experiment, shards=target.chips)
    for parts in PARTS_OF_A_BATCH:
        if experiment.batch_size % (parts * target.chips) == 0 and parts > experiment.accumulate:
            yield f"--accumulate {parts}", dataclasses.replace(experiment, accumulate=parts)


def with_setting(value: Any, field: str, setting: Any) -> Any:
    """A dataclass in which it, and those inside it, have `field` at `setting`, where they have such a field."""
    if isinstance(value, tuple):
        parts = tuple(with_setting(part, field, setting) for part in value)
        return value if all(a is b for a, b in zip(parts, value, strict=True)) else parts
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return value
    inside = {f.name: getattr(value, f.name) for f in dataclasses.fields(value) if f.init}
    changed = {n: setting if n == field else with_setting(part, field, setting) for n, part in inside.items()}
    changed = {n: part for n, part in changed.items() if part is not inside[n] and part != inside[n]}
    return dataclasses.replace(value, **changed) if changed else value


def _needed(experiment: Experiment, target: Target, photos: int | None) -> float | None:
    """Bytes of a device that the step needs; None if the experiment is refused."""
    try:
        return Work.of(experiment, target.devices(), photos).step()[0].needed
    except UserError:
        return None
