"""The figures of a plan: what a training needs of a target's memory, arithmetic, links and time.

Times are estimates. Where the compiler gives its own (a TPU's cycles), that is one part, but for the attention kernel,
of which it gives none; what the links take, at the rate of all of them, is added where the schedule does not compute
for as long. Elsewhere it is the roofline's: each instruction takes as long as its
products at the chip's peak, or its bytes at the memory's bandwidth.
"""

import dataclasses
import functools
from collections import defaultdict
from collections.abc import Mapping, Sequence

import jax

from ssljax.config import Experiment
from ssljax.plan.arithmetic import PARTS, part_of
from ssljax.plan.hlo import COLLECTIVES, TPU_KERNEL, Collective, Instruction, Program
from ssljax.plan.programs import Compiled, Work, bytes_on_device
from ssljax.plan.targets import Chip, Target

PACKAGE = "ssljax"
KEPT = "queue, memory and center"
# What the state's arrays are, by a name on their path; all others are the student's parameters and statistics.
STATE = {
    "optimizer": {"opt_state"},
    "class vectors": {"class_vectors"},
    "teacher": {"teacher"},
    KEPT: {"queue", "memory", "center"},
}
HELD = ("parameters", *STATE)
V5E_FLOPS_A_CYCLE = 4 * 128 * 128 * 2
KERNEL_FLOPS_A_CYCLE, KERNEL_START = 45_300, 160
# Instructions that take no time of their own; the bodies of loops and branches are counted themselves.
FREE = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while", "conditional", "call", "after-all"}
FREE |= {"async-start", "async-done", "async-update", "partition-id", "replica-id", "iota", "opt-barrier"}


@dataclasses.dataclass(frozen=True)
class Part:
    """What one part of the step costs: views, student, teacher, loss or optimizer."""

    needed: float
    """FLOPs of its arithmetic, over all devices"""
    compiled: float
    """FLOPs of the products of the compiled program, over all devices"""
    elementwise: float
    """other operations of the compiled program, over all devices"""
    cycles: float
    """the compiler's estimate, of a device; 0 where it gives none"""
    seconds: float
    """an estimate"""


@dataclasses.dataclass(frozen=True)
class Traffic:
    """What one line of code makes travel between devices in a step, by collectives of one kind."""

    kind: str
    line: str
    """file and line of ssljax; empty if unknown"""
    part: str
    count: int
    bytes: float
    """of the arrays, on each device"""
    hidden: float
    """share of their time in which the schedule computes; an estimate"""


@dataclasses.dataclass(frozen=True)
class Time:
    """Estimates of a step's time, and of the whole training's."""

    source: str
    """ "compiler" or "roofline": where `compute` comes from"""
    compute: float
    """seconds"""
    fitted: float
    """seconds of these that are of attention kernels, of which the compiler says nothing: our own fit"""
    links: float
    """seconds in which data travels, if it takes all links of a chip; a ring may use fewer"""
    step: float
    """seconds: the computation, and what travels without one"""
    mfu: float
    """model FLOPs utilisation: the arithmetic of student, teacher and loss, by the chips' peak in bfloat16"""
    images_per_second: float
    """photos of the batch, over all devices"""
    hours: float | None
    """of all steps; None if the number of photos is not known"""
    chip_hours: float | None


@dataclasses.dataclass(frozen=True)
class Remedy:
    """A change of an experiment, and what it needs with it."""

    options: str
    """as the command line has it"""
    needed: float
    """bytes of a device"""
    fits: bool


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a training needs of a target. Bytes and times are of one device."""

    experiment: str
    target: str
    chips: int
    batch_size: int
    fits: bool
    available: float
    """bytes of a device's memory that programs may use"""
    needed: float
    """bytes of a device, of the program that needs most, and of what lies beside it"""
    memory: dict[str, float]
    """bytes of a device by what they are, during a step"""
    parts: dict[str, Part]
    collectives: tuple[Traffic, ...]
    time: Time | None
    """None if the step does not fit"""
    compile_seconds: dict[str, float]
    """program → seconds that tracing and compiling took here"""
    compile_cpu_seconds: dict[str, float]
    """program → the same of all cores together"""
    programs: dict[str, float]
    """program → bytes of a device that it needs, with the state beside it"""
    photos: int | None
    """of the train split, or listings or triplets; None if unknown"""
    steps_per_epoch: int | None
    epochs: int
    jax: str
    largest: int | None = None
    """the largest batch size that fits, if that was asked for"""
    remedies: tuple[Remedy, ...] = ()
    """changes that take less memory, if they were asked for"""

    @property
    def flops_per_image(self) -> float:
        """FLOPs that the arithmetic needs for one photo of a batch."""
        return sum(part.needed for part in self.parts.values()) / self.batch_size

    @property
    def traffic(self) -> float:
        """Bytes of all collectives of a step, on each device."""
        return sum(t.bytes for t in self.collectives)


def plan(experiment: Experiment, target: Target, photos: int | None = None, *, step_only: bool = False) -> Plan:
    """Compiles an experiment for a target, of which no device need be here, and reads what it costs.

    Args:
        experiment: what is to be trained.
        target: where.
        photos: of the train split, or listings or triplets; None reads the data, if it is there; 0 if unknown.
        step_only: leave out the programs of initialisation and evaluation, which seldom need most.

    Raises:
        UserError: if the experiment does not suit the target, or the target's compiler is not installed.
    """
    work = Work.of(experiment, target.devices(), photos)
    step, needed = work.step()
    programs = {"step": step}
    if not step_only:
        programs |= {"initialisation": work.initialisation(), "evaluation": work.evaluation()}
    memory = _memory(work, step)
    held = sum(memory[name] for name in HELD)
    beside = {"step": memory["next batch"] + memory["cached photos"]}
    if not step_only:
        beside["evaluation"] = max(held + memory["cached photos"] - programs["evaluation"].arguments, 0.0)
    bytes_of = {name: program.needed + beside.get(name, 0.0) for name, program in programs.items()}
    fits = all(p.text and bytes_of[name] <= target.chip.memory for name, p in programs.items())
    program = Program(step.text)
    parts = _parts(program, needed, target)
    seconds = functools.partial(_seconds, program, chip=target.chip)
    travels = program.collectives(PACKAGE, seconds, target.links)
    return Plan(
        experiment=experiment.name,
        target=target.name,
        chips=target.chips,
        batch_size=experiment.batch_size,
        fits=fits,
        available=target.chip.memory,
        needed=max(bytes_of.values()),
        memory=memory,
        parts=parts,
        collectives=_traffic(travels),
        time=_time(work, target, program, parts, travels) if step.text else None,
        compile_seconds={name: p.seconds for name, p in programs.items()},
        compile_cpu_seconds={name: p.cpu_seconds for name, p in programs.items()},
        programs=bytes_of,
        photos=work.photos,
        steps_per_epoch=work.steps_per_epoch,
        epochs=experiment.epochs,
        jax=jax.__version__,
    )


def _memory(work: Work, step: Compiled) -> dict[str, float]:
    """Bytes of a device during a step, by what they are."""
    e, sizes = work.spec.experiment, dict.fromkeys(HELD, 0.0)
    for path, array in jax.tree_util.tree_leaves_with_path(work.spec.placed):
        names = {str(getattr(key, "name", getattr(key, "key", ""))) for key in path}
        sizes[next((kind for kind, marks in STATE.items() if names & marks), "parameters")] += bytes_on_device(array)
    held, batch = sum(sizes.values()), bytes_on_device(work.batch)
    views = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(work.views())) / work.mesh.size
    cached = work.all_photos * e.photo_size**2 * 3 if e.cache == "device" and work.all_photos else 0
    sizes |= {"batch": batch, "next batch": batch, "cached photos": float(cached)}
    sizes |= {"padding of the layout": max(step.arguments - held - batch, 0.0), "views": views}
    return sizes | {"activations": max(step.needed - max(step.arguments, held + batch) - views, 0.0)}


def _parts(program: Program, needed: Mapping[str, float], target: Target) -> dict[str, Part]:
    """What each part of the step costs."""
    devices, chip = target.chips, target.chip
    compiled, elementwise = defaultdict[str, float](float), defaultdict[str, float](float)
    for instruction, computation, times in program.walk(fused=True):
        part = part_of(instruction.op_name)
        compiled[part] += times * program.flops(instruction, computation)
        elementwise[part] += times * program.elementwise(instruction, computation)
    cycles, seconds = defaultdict[str, float](float), defaultdict[str, float](float)
    for instruction, computation, times in program.walk(fused=False):
        part = part_of(instruction.op_name)
        alone = _seconds(program, instruction, computation, chip)
        seconds[part] += times * alone
        cycles[part] += times * alone * chip.clock
    return {
        part: Part(
            needed.get(part, 0.0), compiled[part] * devices, elementwise[part] * devices, cycles[part], seconds[part]
        )
        for part in PARTS
    }


def _seconds(program: Program, instruction: Instruction, computation: str, chip: Chip) -> float:
    """What an instruction takes."""
    if not chip.clock:
        return _roofline(program, instruction, computation, chip)
    if TPU_KERNEL in instruction.attributes:
        return _kernel(program, instruction, computation) * V5E_FLOPS_A_CYCLE / chip.flops
    return instruction.cycles / chip.clock


def _kernel(program: Program, instruction: Instruction, computation: str) -> float:
    """Cycles on a v5e of a kernel on [B, N, C], of which the compiler estimates none.

    Fitted to the static schedules of `models.tpu.attention` at 197 and 37 tokens, 384 channels and 6 heads, which take
    2,330 and 610 cycles an image forward, and 4,600 and 900 backward. Within windows: see `_windows`.
    """
    operands = [program.operand(instruction, computation, i).dims for i in range(len(instruction.operands))]
    if any(len(dims) == 2 for dims in operands):
        return _windows(operands, instruction)
    flops, dims = program.flops(instruction, computation), operands[0]
    if len(dims) != 3:
        return flops / KERNEL_FLOPS_A_CYCLE
    batch, tokens, channels = dims
    padded = -(-tokens // 128) * 128 / tokens
    return flops * padded / KERNEL_FLOPS_A_CYCLE + KERNEL_START * batch * channels / 128


def _windows(operands: Sequence[tuple[int, ...]], instruction: Instruction) -> float:
    """Cycles on a v5e of attention within windows, by the operands of `models.tpu.attention`.

    Fitted to its static schedules in the stages of a Swin-T at 224 px, of 392 tokens and 96 channels, 784 and 192, 392
    and 384: 3,900, 21,100 and 3 x 3,900 cycles forward, 6,600, 34,100 and 3 x 6,200 backward.
    """
    batch, tokens, channels = operands[0]
    groups, stacks, own, _ = next(dims for dims in operands if len(dims) == 4)
    rows = next(dims for dims in operands if len(dims) == 2)[0]  # of all windows of an item
    backward = sum(len(shape.dims) == 3 for shape in instruction.shapes) == 3
    arrays, start, each = (7, 140, 83) if backward else (4, 90, 45)
    registers = groups * -(-channels // groups // 128)
    moving = 1.7 * arrays * registers * rows / 8 * -(-tokens // 128)
    return batch * (moving + rows / own * stacks * (groups * start + registers * each))


def _roofline(program: Program, instruction: Instruction, computation: str, chip: Chip) -> float:
    """Seconds of an instruction by what limits it: its products, or the bytes that it reads and writes."""
    kind = instruction.opcode
    if kind in FREE or kind.removesuffix("-start").removesuffix("-done") in COLLECTIVES:
        return 0.0
    work = 0.0
    for inner, of in program.inside(instruction, computation):
        if flops := program.flops(inner, of):
            work += flops * chip.passes(program.operand(inner, of, 0).kind, inner.attributes)
    return max(work / chip.flops, program.accessed(instruction, computation) / chip.bandwidth)


def _traffic(travels: Sequence[Collective]) -> tuple[Traffic, ...]:
    """By kind and line, the most bytes first."""
    groups: dict[tuple[str, str, str], list[Collective]] = defaultdict(list)
    for c in travels:
        groups[c.kind, c.line, part_of(c.op_name)].append(c)
    found = [
        Traffic(
            *(kind, line, part, round(sum(c.times for c in alike)), sum(c.times * c.bytes for c in alike)),
            hidden=_hidden(alike),
        )
        for (kind, line, part), alike in groups.items()
    ]
    return tuple(sorted(found, key=lambda t: -t.bytes))


def _hidden(travels: Sequence[Collective]) -> float:
    """The share of what travels that the schedule hides."""
    total = sum(c.times * c.travels for c in travels)
    return sum(c.times * c.travels * c.hidden for c in travels) / total if total else 1.0


def _time(
    work: Work, target: Target, program: Program, parts: Mapping[str, Part], travels: Sequence[Collective]
) -> Time:
    chip, e = target.chip, work.spec.experiment
    compute = sum(part.seconds for part in parts.values())
    links = sum(c.times * c.travels for c in travels) / target.links
    kernels = ((i, of, n) for i, of, n in program.walk(fused=False) if chip.clock and TPU_KERNEL in i.attributes)
    step = compute + links * (1 - _hidden(travels))
    arithmetic = sum(parts[name].needed for name in ("student", "teacher", "loss"))
    steps = None if work.steps_per_epoch is None else work.steps_per_epoch * e.epochs
    hours = None if steps is None else steps * step / 3600
    return Time(
        source="compiler" if chip.clock else "roofline",
        compute=compute,
        fitted=sum(times * _seconds(program, kernel, of, chip) for kernel, of, times in kernels),
        links=links,
        step=step,
        mfu=arithmetic / (step * target.chips * chip.flops),
        images_per_second=e.batch_size / step,
        hours=hours,
        chip_hours=None if hours is None else hours * target.chips,
    )
