"""Reads the program that XLA compiled, from its text: FLOPs, the compiler's cycles, and what travels between devices.

XLA gives its programs as a protocol buffer, for which Python has no classes without TensorFlow, or as text; the text's
grammar has been the same for years, and tests hold what is read of it.
"""

import dataclasses
import functools
import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping

import numpy as np

BYTES = {"pred": 1, "s4": 0.5, "u4": 0.5, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s16": 2, "u16": 2}
BYTES |= {"s32": 4, "u32": 4, "f32": 4, "s64": 8, "u64": 8, "f64": 8, "c64": 8, "c128": 16}
TPU_KERNEL = "tpu_custom_call"  # a kernel written in Pallas, of which the compiler estimates nothing
COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute", "collective-broadcast")
# One operation an element of the result. What moves or makes data is none.
ELEMENTWISE = {
    *("abs", "add", "and", "atan2", "cbrt", "ceil", "clamp", "compare", "complex", "cosine", "divide", "erf"),
    *("exponential", "exponential-minus-one", "floor", "is-finite", "log", "log-plus-one", "logistic", "maximum"),
    *("minimum", "multiply", "negate", "not", "or", "power", "remainder", "round-nearest-afz", "round-nearest-even"),
    *("rsqrt", "select", "shift-left", "shift-right-arithmetic", "shift-right-logical", "sign", "sine", "sqrt"),
    *("subtract", "tan", "tanh", "xor"),
}
_ARRAY = re.compile(r"\b(pred|token|[a-z]+\d+\w*)\[([\d,]*)\]")
_INSTRUCTION = re.compile(r"^\s*(?:ROOT )?%?([\w.\-]+) = (.*)$")
_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) (?:\(.*\) -> .* )?\{$")
_CALLS = re.compile(r"(calls|body|to_apply|called_computations|true_computation|false_computation)=\{?%?([\w.\-]+)")


@dataclasses.dataclass(frozen=True)
class Shape:
    """An array's type and shape."""

    kind: str
    dims: tuple[int, ...]

    @property
    def size(self) -> int:
        """Elements."""
        return math.prod(self.dims)

    @property
    def bytes(self) -> float:
        """Without what the layout pads."""
        return self.size * BYTES.get(self.kind, 0)


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One instruction of a computation."""

    name: str
    shapes: tuple[Shape, ...]
    """of the result; several of a tuple"""
    opcode: str
    operands: tuple[str, ...]
    attributes: str

    def attribute(self, pattern: str, default: str = "") -> str:
        """The first group of a regular expression over the attributes."""
        found = re.search(pattern, self.attributes)
        return found[1] if found else default

    @property
    def op_name(self) -> str:
        """The scopes and the JAX primitive that it comes from."""
        return self.attribute(r'op_name="([^"]*)"')

    @property
    def cycles(self) -> int:
        """The TPU compiler's estimate; 0 where it gives none."""
        return int(self.attribute(r'"estimated_cycles":"?(\d+)', "0"))


@dataclasses.dataclass(frozen=True)
class Collective:
    """One exchange between devices."""

    kind: str
    bytes: float
    """of the whole array, on each device: an all-gather's result, a reduce-scatter's operand"""
    devices: int
    """that take part in one group"""
    op_name: str
    line: str
    """file and line of the package that causes it; empty if unknown"""
    times: float
    """in a run of the program"""
    hidden: float
    """share of its time in which the schedule computes"""

    @property
    def travels(self) -> float:
        """Bytes that a device sends, by a ring: an all-reduce is a reduce-scatter and an all-gather."""
        rounds = {"all-reduce": 2, "collective-permute": self.devices / max(self.devices - 1, 1)}.get(self.kind, 1)
        return rounds * self.bytes * (self.devices - 1) / self.devices


class Program:
    """A compiled program."""

    def __init__(self, text: str):
        self.computations: dict[str, dict[str, Instruction]] = {}
        self.entry = ""
        self._locations: dict[int, tuple[str, int]] = {}
        self._frames: dict[int, tuple[int, int]] = {}
        files: dict[int, str] = {}
        here: dict[str, Instruction] = {}
        section = ""
        for line in text.splitlines():
            if line in ("FileNames", "FunctionNames", "FileLocations", "StackFrames"):
                section = line
            elif section and (found := re.match(r"(\d+) (.*)", line)):
                number, numbers = int(found[1]), [int(n) for n in re.findall(r"=(\d+)", found[2])]
                if section == "FileNames":
                    files[number] = found[2].strip('"')
                elif section == "FileLocations":
                    self._locations[number] = files.get(numbers[0], ""), numbers[2]
                elif section == "StackFrames":
                    self._frames[number] = numbers[0], numbers[1] if len(numbers) > 1 else 0
            elif found := _COMPUTATION.match(line):
                section, here = "", {}
                self.computations[found[2]] = here
                self.entry = found[2] if found[1] else self.entry
            elif found := _INSTRUCTION.match(line):
                here[found[1]] = _instruction(found[1], found[2])
        # This version of XLA writes the parent's number plus one; a frame cannot be its own parent.
        self._shift = int(any(parent >= number for number, (_, parent) in self._frames.items()))

    def walk(self, *, fused: bool) -> Iterator[tuple[Instruction, str, float]]:
        """Every instruction that runs, its computation, and how often a run of the program does.

        `fused` descends into fusions too; without it, a fusion is one instruction. Branches count as if each ran.
        """
        yield from self._walk(self.entry, 1.0, fused)

    def _walk(self, computation: str, times: float, fused: bool) -> Iterator[tuple[Instruction, str, float]]:
        for instruction in self.computations.get(computation, {}).values():
            yield instruction, computation, times
            if instruction.opcode in ("fusion", "async-start") and not fused:
                continue
            if instruction.opcode in ("reduce", "scatter", "sort", "map", "reduce-window", "select-and-scatter"):
                continue  # what they apply to every element is counted with them
            if instruction.opcode in COLLECTIVES or instruction.opcode.removesuffix("-start") in COLLECTIVES:
                continue
            trips = self._trips(instruction) if instruction.opcode == "while" else 1.0
            branches = re.search(r"branch_computations=\{([^}]*)\}", instruction.attributes)
            called = [name for _, name in _CALLS.findall(instruction.attributes)]
            called += re.findall(r"%?([\w.\-]+)", branches[1]) if branches else []
            for name in called:
                yield from self._walk(name, times * trips, fused)

    def _trips(self, loop: Instruction) -> float:
        """How often a loop runs; without a figure, what its condition compares a counter from 0 with; 1 if unknown."""
        if known := loop.attribute(r'"known_trip_count":\{"n":"(\d+)"'):
            return float(known)
        condition = self.computations.get(loop.attribute(r"condition=%?([\w.\-]+)"), {}).values()
        bounds = [float(i.operands[0]) for i in condition if i.opcode == "constant" and i.shapes[0].kind == "s32"]
        less = any(i.opcode == "compare" and "direction=LT" in i.attributes for i in condition)
        return bounds[0] if len(bounds) == 1 and less else 1.0

    def flops(self, instruction: Instruction, computation: str) -> float:
        """Of a matrix product or convolution: two for each multiplication; 0 for anything else."""
        if instruction.opcode == "dot":
            lhs = self.operand(instruction, computation, 0)
            axes = _integers(instruction.attribute(r"lhs_contracting_dims=\{([\d,]*)\}"))
            return 2.0 * instruction.shapes[0].size * math.prod(lhs.dims[axis] for axis in axes)
        if instruction.opcode == "convolution":
            operands = (self.operand(instruction, computation, 0), self.operand(instruction, computation, 1))
            return _convolution(instruction, *operands, instruction.shapes[0])
        if instruction.opcode != "custom-call":
            return 0.0
        target = instruction.attribute(r'custom_call_target="([^"]*)"')
        if target.startswith("__cublas$"):
            lhs = self.operand(instruction, computation, 0)
            axes = re.findall(r"\d+", instruction.attribute(r'"lhs_contracting_dimensions":\[([^\]]*)\]'))
            return 2.0 * instruction.shapes[0].size * math.prod(lhs.dims[int(axis)] for axis in axes)
        if target == TPU_KERNEL:
            return float(instruction.attribute(r'"flops":"?(\d+)', "0"))
        if target.startswith("__cudnn$fmha"):
            query, key = (self.operand(instruction, computation, i) for i in (0, 1))
            return attention_flops(query.size, key.dims[1], backward="Backward" in target)
        if target.startswith("__cudnn$conv"):
            first, second = (self.operand(instruction, computation, i) for i in (0, 1))
            result = instruction.shapes[0]
            roles = {"__cudnn$convBackwardInput": (result, second, first)}
            roles |= {"__cudnn$convBackwardFilter": (first, result, second)}
            return _convolution(instruction, *roles.get(target, (first, second, result)))
        return 0.0

    def elementwise(self, instruction: Instruction, computation: str) -> float:
        """Operations on single elements, one each, whatever they cost."""
        if instruction.opcode in ELEMENTWISE:
            return float(instruction.shapes[0].size)
        if instruction.opcode in ("reduce", "reduce-window"):
            return float(self.operand(instruction, computation, 0).size)
        return 0.0

    def collectives(
        self, package: str, seconds: Callable[[Instruction, str], float], bandwidth: float
    ) -> list[Collective]:
        """What travels between devices.

        Args:
            package: the folder whose lines are named.
            seconds: that an instruction of a computation takes.
            bandwidth: bytes a second that a device sends.
        """
        found: dict[object, list[tuple[Instruction, str, float]]] = defaultdict(list)
        for instruction, computation, times in self.walk(fused=True):
            if instruction.opcode.removesuffix("-start") in COLLECTIVES:
                # A collective that the TPU's compiler spreads over several fusions is written in each of them.
                channel = instruction.attribute(r"channel_id=(\d+)")
                key = instruction.opcode.removesuffix("-start"), channel or (computation, instruction.name)
                found[key].append((instruction, computation, times))
        made, spent = [], defaultdict[int, float](float)
        for places in found.values():
            instruction, computation, times = places[-1]
            kind, group = instruction.opcode.removesuffix("-start"), self._group(instruction)
            operands = (self.operand(instruction, computation, i) for i in range(len(instruction.operands)))
            whole = sum(shape.bytes for shape in operands) * (group if kind == "all-gather" else 1)
            if kind == "all-reduce":  # one that rounds its result is taken to send it rounded
                whole = min(whole, sum(shape.bytes for shape in instruction.shapes))
            source = self._source(instruction, computation)
            line = self.line(source, package)
            collective = Collective(kind, whole, group, source.op_name, line, times, hidden=0.0)
            takes = left = collective.travels / bandwidth
            for other, of in self._meanwhile({(i.name, of): i for i, of, _ in places}):
                free = min(left, seconds(other, of) - spent[id(other)])  # what hides one collective hides no other
                spent[id(other)] += free
                left -= free
            made.append(dataclasses.replace(collective, hidden=1 - left / takes if takes else 1.0))
        return made

    def _meanwhile(self, places: Mapping[tuple[str, str], Instruction]) -> Iterator[tuple[Instruction, str]]:
        """What the schedule has between the start of a collective and its end, or from its first fusion to its last."""
        (first, computation), *others = places
        start = places[first, computation]
        if computation in self._callers:  # of a collective that is written inside its start
            outer, i = self._callers[computation]
            caller = list(self.computations[outer].values())[i]
            start, computation = (caller, outer) if caller.opcode == "async-start" else (start, computation)
        if start.opcode.endswith("-start"):
            here = list(self.computations[computation].values())
            after = here.index(start) + 1
            users = (i for i in range(after, len(here)) if start.name in here[i].operands)
            yield from ((other, computation) for other in here[after : next(users, after)])
        elif others:
            around = [self._callers[of] for _, of in places if of in self._callers]
            for outer in {outer for outer, _ in around}:
                inside = [i for where, i in around if where == outer]
                between = list(self.computations[outer].values())[min(inside) : max(inside) + 1]
                yield from ((other, outer) for other in between)

    @functools.cached_property
    def _callers(self) -> dict[str, tuple[str, int]]:
        """The computation of a fusion or an asynchronous start → that which calls it, at which of its instructions."""
        return {
            instruction.attribute(r"calls=%?([\w.\-]+)"): (outer, i)
            for outer, instructions in self.computations.items()
            for i, instruction in enumerate(instructions.values())
            if instruction.opcode in ("fusion", "async-start")
        }

    def _source(self, instruction: Instruction, computation: str) -> Instruction:
        """The instruction, or else what makes its first operand, that has a name: combined collectives have none."""
        source = instruction
        while not source.op_name and source.operands and source.operands[0] in self.computations[computation]:
            source = self.computations[computation][source.operands[0]]
        return source

    def line(self, instruction: Instruction, package: str) -> str:
        """`file:line` of the innermost frame in the folder `package`, but for sharding.py; empty if there is none.

        What sharding.py does, its caller causes.
        """
        number = int(instruction.attribute(r"stack_frame_id=(\d+)", "0"))
        while number in self._frames:
            location, parent = self._frames[number]
            file, line = self._locations.get(location, ("", 0))
            if f"/{package}/" in file and not file.endswith("/sharding.py"):
                return f"{file.rsplit(f'/{package}/', 1)[1]}:{line}"
            number = parent - self._shift
        return ""

    def inside(self, instruction: Instruction, computation: str) -> Iterator[tuple[Instruction, str]]:
        """The instructions of a fusion with their computation; of another instruction, itself."""
        if instruction.opcode != "fusion":
            yield instruction, computation
            return
        for inner, of, _ in self._walk(instruction.attribute(r"calls=%?([\w.\-]+)"), 1.0, True):
            yield inner, of

    def accessed(self, instruction: Instruction, computation: str) -> float:
        """Bytes of an instruction's operands and result."""
        read = sum(self.operand(instruction, computation, i).bytes for i in range(len(instruction.operands)))
        return read + sum(shape.bytes for shape in instruction.shapes)

    def operand(self, instruction: Instruction, computation: str, index: int) -> Shape:
        """The type of an operand; an empty array if it is unknown."""
        found = self.computations[computation].get(instruction.operands[index])
        return found.shapes[0] if found and found.shapes else Shape("f32", ())

    def _group(self, instruction: Instruction) -> int:
        """How many devices take part in one group of a collective."""
        groups = re.search(
            r"replica_groups=(\{\{[\d,]*\}|\[\d+,\d+\]|mesh\[[^\]]*\] \{[^}]*\})", instruction.attributes
        )
        pairs = re.search(r"source_target_pairs=\{(.*?)\}\}", instruction.attributes)
        if pairs:
            return pairs[1].count("{") or 1
        if not groups:
            return 1
        if groups[1].startswith("mesh"):
            sizes = {name: int(size) for name, size in re.findall(r"'(\w+)'=(\d+)", groups[1])}
            return math.prod(sizes[name] for name in re.findall(r"'(\w+)'", groups[1].split("]")[1]))
        numbers = _integers(groups[1].strip("{}[]"))
        return numbers[1] if groups[1].startswith("[") else max(len(numbers), 1)


def _instruction(name: str, rest: str) -> Instruction:
    """An instruction from what follows "name =": type, opcode(operands), attributes."""
    end = _closing(rest, 0) + 1 if rest.startswith("(") else rest.index(" ")
    kind, rest = rest[:end], rest[end:].lstrip()
    opcode, _, rest = rest.partition("(")
    end = _closing("(" + rest, 0) - 1
    operands = tuple(re.findall(r"%([\w.\-]+)", rest[:end])) or tuple(re.findall(r"[\w.\-]+", rest[:end]))
    shapes = tuple(Shape(kind, _integers(dims)) for kind, dims in _ARRAY.findall(kind))
    return Instruction(name, shapes, opcode, operands, rest[end + 1 :])


def _closing(text: str, start: int) -> int:
    """Where the parenthesis that opens at `start` closes."""
    depth = 0
    for found in re.finditer(r"[()]", text[start:]):
        depth += 1 if found[0] == "(" else -1
        if not depth:
            return start + found.start()
    return len(text) - 1


def _integers(text: str) -> tuple[int, ...]:
    return tuple(int(n) for n in text.split(",") if n)


def _convolution(instruction: Instruction, lhs: Shape, rhs: Shape, result: Shape) -> float:
    """FLOPs of a convolution, of which positions in the padding and between dilated elements are none."""
    left, right, out = re.split("_|->", instruction.attribute(r"dim_labels=([\w?]+_[\w?]+->[\w?]+)"))
    window = instruction.attribute(r"window=\{([^}]*)\}")
    fields = {name: value.split("x") for name, value in re.findall(r"(\w+)=(\S+)", window)}
    spatial = len(right) - 2
    positions, ones = 1, ["1"] * spatial
    for axis in range(spatial):
        stride, dilated, spread = (int(fields.get(f, ones)[axis]) for f in ("stride", "lhs_dilate", "rhs_dilate"))
        before = int(fields["pad"][axis].split("_")[0]) if "pad" in fields else 0
        size = lhs.dims[left.index(str(axis))], rhs.dims[right.index(str(axis))], result.dims[out.index(str(axis))]
        positions *= valid_positions(*size, stride, before, dilated, spread)
    groups = int(instruction.attribute(r"batch_group_count=(\d+)", "1"))
    batch, features = lhs.dims[left.index("b")] / groups, rhs.dims[right.index("i")]
    return 2.0 * positions * batch * features * result.dims[out.index("f")]


def attention_flops(query: int, keys: int, *, backward: bool) -> float:
    """FLOPs of an attention that keeps no weights, of so many elements of the queries and so many keys.

    Forward it makes two products, backward five: the weights again, and the gradients of them and of the three inputs.
    """
    return 2.0 * (5 if backward else 2) * query * keys


@functools.lru_cache(maxsize=4096)
def valid_positions(n: int, window: int, outputs: int, stride: int, before: int, dilated: int, spread: int) -> int:
    """Pairs of an output and a window position along one axis that meet an element of the input.

    n, window, outputs: sizes; stride: between outputs; before: padding at the beginning; dilated: the distance of the
    input's elements; spread: that of the window's.
    """
    at = np.arange(outputs)[:, None] * stride + np.arange(window)[None] * spread - before
    return int(np.count_nonzero((at >= 0) & (at <= (n - 1) * dilated) & (at % dilated == 0)))
