"""What would fit: the largest batch, and settings that take less memory. Each try compiles the programs of a plan."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

from ssljax.config import Experiment
from ssljax.plan.figures import Plan, Remedy, plan
from ssljax.plan.programs import Work
from ssljax.plan.targets import Target
from ssljax.types import UserError

FINE = 16  # the largest batch is told to a 16th of itself
GROWTH = 8  # of the batch at most, from one try to the next
LESS_MEMORY = (("remat", "dots", ("none",)), ("remat", "block", ("none", "dots")), ("dtype", "bfloat16", ("float32",)))
PARTS_OF_A_BATCH = (2, 4, 8, 16)


def largest_batch(
    experiment: Experiment,
    target: Target,
    photos: int | None,
    say: Callable[[str], None],
    *,
    step_only: bool = False,
    made: Plan | None = None,
) -> int | None:
    """The largest batch size whose plan fits, to a sixteenth of itself; None if none does.

    What a batch needs grows nearly in proportion, so that a few tries suffice. It is no larger than the data set. Sizes
    that the experiment refuses (a queue that is no multiple of the batch, say) are stepped over.

    Args:
        experiment: what is to be trained.
        target: where.
        photos: as of `plan`.
        say: is told of each try.
        step_only: as of `plan`.
        made: the plan of the experiment as it is; by default it is made.

    Raises:
        UserError: as `plan`.
    """
    first = made or plan(experiment, target, photos, step_only=step_only)
    tried: dict[int, Plan | None] = {experiment.batch_size: first}  # None of those that are refused
    while True:
        plans = {size: p for size, p in tried.items() if p}
        fits = max((size for size, p in plans.items() if p.fits), default=0)
        too_large = min((size for size, p in plans.items() if not p.fits), default=None)
        step = target.chips * experiment.accumulate
        if too_large is not None and too_large - fits <= max(step, fits // FINE):
            return fits or None
        most = GROWTH * fits + 1 if too_large is None else too_large
        if first.photos is not None:
            most = min(most, first.photos + 1)
        guess = _guess(fits, most, too_large is not None, plans, target)
        left = [size for size in range(fits - fits % step + step, most, step) if size not in tried]
        left = [size for size in left if not _kept(experiment) % size]
        for size in sorted(left, key=lambda size: abs(size - guess)):
            changed = dataclasses.replace(experiment, batch_size=size)
            tried[size] = _tried(changed, target, photos, step_only)
            if (found := tried[size]) is not None:
                say(f"batch_size={size} needs {found.needed / 2**30:.2f} GiB")
                break
        else:
            return fits or None


def _guess(fits: int, most: int, bounded: bool, plans: dict[int, Plan], target: Target) -> int:
    """The size to try next, below `most`: where the line through what was tried meets the memory."""
    guess, known = (fits + most) // 2, sorted(plans)[-2:]
    if len(known) == 2 and plans[known[0]].needed < plans[known[1]].needed:
        slope = (plans[known[1]].needed - plans[known[0]].needed) / (known[1] - known[0])
        guess = int(known[0] + (target.chip.memory - plans[known[0]].needed) / slope)
    margin = max((most - fits) // 8, target.chips)  # from both ends, so that few tries are needed in any case
    return min(max(guess, fits + margin), most - margin if bounded else most - 1) // target.chips * target.chips


def _kept(experiment: Experiment) -> int:
    """What the batch size must divide: the keys that a method keeps of past batches; 0, as all sizes divide it."""
    method: Any = experiment.method
    return getattr(method, "queue_size", 0) or getattr(getattr(method, "memory", None), "size", 0)


def _tried(experiment: Experiment, target: Target, photos: int | None, step_only: bool) -> Plan | None:
    """The plan of an experiment; None if the experiment is refused, which its shapes tell before anything compiles."""
    try:
        Work.of(experiment, target.devices(), photos).spec.shapes  # noqa: B018
        return plan(experiment, target, photos, step_only=step_only)
    except UserError:
        return None


def remedies(
    experiment: Experiment,
    target: Target,
    photos: int | None,
    say: Callable[[str], None],
    *,
    step_only: bool = False,
) -> tuple[Remedy, ...]:
    """What the experiment needs with each change of settings that takes less memory; arguments as `largest_batch`."""
    found = []
    for options, changed in _changes(experiment, target):
        if made := _tried(changed, target, photos, step_only):
            found.append(Remedy(options, made.needed, made.fits))
            say(f"{options} needs {made.needed / 2**30:.2f} GiB")
    return tuple(found)


def _changes(experiment: Experiment, target: Target) -> Iterator[tuple[str, Experiment]]:
    """Options as the command line has them, and the experiment with them."""
    for field, setting, instead_of in LESS_MEMORY:
        method = _with_setting(experiment.method, field, setting, instead_of)
        if options := list(_options(experiment.method, method, "method")):
            yield " ".join(options), dataclasses.replace(experiment, method=method)
    if experiment.shards < target.chips:
        yield f"--shards {target.chips}", dataclasses.replace(experiment, shards=target.chips)
    for parts in PARTS_OF_A_BATCH:
        if experiment.batch_size % (parts * target.chips) == 0 and parts > experiment.accumulate:
            yield f"--accumulate {parts}", dataclasses.replace(experiment, accumulate=parts)


def _with_setting(value: Any, field: str, setting: str, instead_of: tuple[str, ...]) -> Any:
    """A dataclass in which it, and those inside it, have `field` at `setting` instead of any of `instead_of`."""
    if isinstance(value, tuple):
        parts = tuple(_with_setting(part, field, setting, instead_of) for part in value)
        return value if all(a is b for a, b in zip(parts, value, strict=True)) else parts
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return value
    inside = {f.name: getattr(value, f.name) for f in dataclasses.fields(value) if f.init}
    changed = {n: _with_setting(part, field, setting, instead_of) for n, part in inside.items()}
    if inside.get(field) in instead_of:
        changed[field] = setting
    changed = {n: part for n, part in changed.items() if part is not inside[n]}
    return dataclasses.replace(value, **changed) if changed else value


def _options(before: Any, after: Any, path: str) -> Iterator[str]:
    """The options, such as --method.encoder.remat block, that make one dataclass into another."""
    if before is after:
        return
    if isinstance(before, tuple):
        parts = {str(i): pair for i, pair in enumerate(zip(before, after, strict=True))}
    elif dataclasses.is_dataclass(before):
        names = [field.name for field in dataclasses.fields(before) if field.init]
        parts = {name: (getattr(before, name), getattr(after, name)) for name in names}
    else:
        yield f"--{path.replace('_', '-')} {after}"
        return
    for name, pair in parts.items():
        yield from _options(*pair, f"{path}.{name}")
