"""What is read of a compiled program's text, against numbers counted by hand."""

from pathlib import Path

import pytest

from ssljax.plan.hlo import Program, valid_positions
from ssljax.plan.programs import needed_bytes

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def program() -> Program:
    return Program((HERE / "tpu.hlo").read_text())


def test_products_are_counted_in_fusions_and_as_often_as_a_loop_runs(program):
    flops = {i.name: times * program.flops(i, of) for i, of, times in program.walk(fused=True) if program.flops(i, of)}
    assert flops == {"dot.1": 2 * 8 * 2 * 4, "dot.2": 12 * 2 * 8 * 4 * 4}
    elementwise = sum(times * program.elementwise(i, of) for i, of, times in program.walk(fused=True))
    assert elementwise == 8 * 2


def test_cycles_are_those_of_fusions_as_often_as_a_loop_runs(program):
    cycles = {i.name: times * i.cycles for i, _, times in program.walk(fused=False) if i.cycles}
    assert cycles == {"dot.2": 600, "fusion": 1000}


def by_cycles(instruction, computation) -> float:
    return float(instruction.cycles)


def test_collectives_have_their_bytes_their_group_and_their_line(program):
    gather, reduce = program.collectives("ssljax", by_cycles, 1.0)
    assert (gather.kind, gather.bytes, gather.devices, gather.hidden) == ("all-gather", 64 * 4 * 4, 8, 1.0)
    assert gather.line == "methods/moco.py:70", "what sharding.py does, its caller causes"
    assert gather.travels == pytest.approx(64 * 4 * 4 * 7 / 8)
    assert (reduce.kind, reduce.bytes, reduce.devices, reduce.hidden) == ("all-reduce", 8 * 2 * 4, 2, 0.0)
    assert reduce.op_name == "jit(step)/teacher/add", "a combined collective is named by what makes its operand"
    assert reduce.travels == pytest.approx(8 * 2 * 4)


SENDING = """ENTRY %main {
  %a = f32[1000]{0} parameter(0)
  %one = f32[1000]{0} all-reduce-start(%a), channel_id=1, replica_groups=[1,2]<=[2]
  %two = f32[1000]{0} all-reduce-start(%a), channel_id=2, replica_groups=[1,2]<=[2]
  %f = f32[8]{0} fusion(%a), calls=%g, backend_config={"estimated_cycles":"5000"}
  %one-done = f32[1000]{0} all-reduce-done(%one)
  %two-done = f32[1000]{0} all-reduce-done(%two)
  ROOT %rounded = bf16[1000]{0} all-reduce(%a), channel_id=3, replica_groups=[1,2]<=[2]
}
"""


def test_a_computation_hides_as_much_as_it_takes_and_only_once():
    one, two, rounded = Program(SENDING).collectives("ssljax", by_cycles, 1.0)
    assert (one.travels, one.hidden, two.hidden) == (4000, 1.0, pytest.approx(1000 / 4000))
    assert (rounded.hidden, rounded.bytes) == (0.0, 2000), "sent as it is rounded"
    assert [c.hidden for c in Program(SENDING).collectives("ssljax", by_cycles, 10.0)] == [1.0, 1.0, 0.0]


SPREAD = """%g.1 {
  %a.1 = f32[1000]{0} parameter(0)
  ROOT %r.1 = f32[1000]{0} all-reduce(%a.1), channel_id=1, replica_groups=[1,2]<=[2]
}

%g.2 {
  %a.2 = f32[1000]{0} parameter(0)
  ROOT %r.2 = f32[1000]{0} all-reduce(%a.2), channel_id=1, replica_groups=[1,2]<=[2]
}

ENTRY %main {
  %a = f32[1000]{0} parameter(0)
  %f = f32[1000]{0} fusion(%a), calls=%g.1, backend_config={"estimated_cycles":"500"}
  %h = f32[1000]{0} fusion(%a), calls=%h.1, backend_config={"estimated_cycles":"1000"}
  %k = f32[1000]{0} fusion(%f), calls=%g.2, backend_config={"estimated_cycles":"500"}
  ROOT %l = f32[1000]{0} fusion(%k), calls=%h.1, backend_config={"estimated_cycles":"9000"}
}
"""


def test_a_collective_that_is_spread_over_fusions_is_hidden_by_them_and_what_lies_between():
    (reduce,) = Program(SPREAD).collectives("ssljax", by_cycles, 1.0)
    assert (reduce.bytes, reduce.hidden) == (4000, pytest.approx(2000 / 4000))


WRAPPED = """%g {
  %a.1 = f32[1000]{0} parameter(0)
  ROOT %r = f32[500]{0} reduce-scatter(%a.1), channel_id=1, replica_groups=[1,2]<=[2]
}

ENTRY %main {
  %a = f32[1000]{0} parameter(0)
  %s = ((f32[1000]{0}), f32[500]{0}) async-start(%a), calls=%g
  %f = f32[1000]{0} fusion(%a), calls=%h, backend_config={"estimated_cycles":"500"}
  %d = f32[500]{0} async-done(%s)
  ROOT %l = f32[500]{0} fusion(%d), calls=%h, backend_config={"estimated_cycles":"9000"}
}
"""


def test_a_collective_that_is_written_inside_its_start_is_hidden_by_what_follows():
    (scatter,) = Program(WRAPPED).collectives("ssljax", by_cycles, 1.0)
    assert (scatter.kind, scatter.travels, scatter.hidden) == ("reduce-scatter", 2000, pytest.approx(500 / 2000))


def test_bytes_of_an_instruction_are_those_of_its_operands_and_its_result(program):
    fusion = program.computations["main"]["fusion"]
    assert program.accessed(fusion, "main") == 4 * (8 * 4 + 4 * 2 + 8 * 2)


@pytest.mark.parametrize(
    "attributes, kernel, result, flops",
    [
        ("window={size=3x3}, dim_labels=b01f_01io->b01f", "3,3,16,32", "8,30,30,32", 2 * 8 * 30 * 30 * 32 * 9 * 16),
        (
            "window={size=3x3 stride=2x2 pad=1_1x1_1}, dim_labels=b01f_01io->b01f",
            *("3,3,16,32", "8,16,16,32", 2 * 8 * 32 * 16 * (3 * 16 - 1) ** 2),
        ),
        (  # each channel on its own
            "window={size=3x3}, dim_labels=b01f_01io->b01f, feature_group_count=16",
            *("3,3,1,16", "8,30,30,16", 2 * 8 * 30 * 30 * 16 * 9),
        ),
        (  # the gradient of a strided convolution: positions between the spread elements cost nothing
            "window={size=2x2 pad=1_1x1_1 lhs_dilate=2x2}, dim_labels=b01f_01io->b01f",
            *("2,2,16,4", "8,64,64,4", 2 * 8 * 4 * 16 * 64**2),
        ),
    ],
)
def test_flops_of_convolutions_leave_out_the_padding(attributes, kernel, result, flops):
    program = Program(
        "ENTRY %main {\n  %x = f32[8,32,32,16]{3,2,1,0} parameter(0)\n"
        f"  %k = f32[{kernel}]{{3,2,1,0}} parameter(1)\n"
        f"  ROOT %y = f32[{result}]{{3,2,1,0}} convolution(%x, %k), {attributes}\n}}\n"
    )
    assert program.flops(program.computations["main"]["y"], "main") == flops


def test_flops_of_the_libraries_that_gpus_call():
    program = Program((HERE / "gpu.hlo").read_text())
    flops = {name: program.flops(i, "main") for name, i in program.computations["main"].items()}
    convolution = 2 * 8 * 8 * 8 * 2 * 9 * 4
    assert (flops["y"], flops["d"], flops["n"]) == (2 * 8 * 32 * 16, convolution, convolution)


def test_positions_in_the_padding_and_between_spread_elements_are_not_valid():
    assert valid_positions(5, 3, 5, 1, 1, 1, 1) == 3 * 5 - 2
    assert valid_positions(3, 2, 6, 1, 1, 2, 1) == 6


def test_the_bytes_that_a_refused_program_needs_are_read_of_the_refusal():
    short = "the total memory required for HLO temporaries (2.50G) exceeds available HBM (15.75G)."
    assert needed_bytes(f"RESOURCE_EXHAUSTED: Ran out of memory on HBM, {short}", 2**30) == 3.5 * 2**30
    long = "RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 17.5G of 15.75G hbm. Exceeded by 1.8G."
    assert needed_bytes(long, 2**30) == 17.5 * 2**30
    assert needed_bytes("RESOURCE_EXHAUSTED", 2**30) == 2**30


def test_a_loop_without_a_figure_runs_as_often_as_its_condition_says():
    loop = Program("""HloModule loop

%condition (c: (s32[], f32[8])) -> pred[] {
  %c = (s32[], f32[8]{0}) parameter(0)
  %i = s32[] get-tuple-element(%c), index=0
  %n = s32[]{:T(128)} constant(12)
  ROOT %lt = pred[] compare(%i, %n), direction=LT
}

%body (b: (s32[], f32[8])) -> (s32[], f32[8]) {
  %b = (s32[], f32[8]{0}) parameter(0)
  %k = s32[] get-tuple-element(%b), index=0
  %x = f32[8]{0} get-tuple-element(%b), index=1
  %y = f32[8]{0} add(%x, %x)
  ROOT %t = (s32[], f32[8]{0}) tuple(%k, %y)
}

ENTRY %main (a: (s32[], f32[8])) -> (s32[], f32[8]) {
  %a = (s32[], f32[8]{0}) parameter(0)
  ROOT %w = (s32[], f32[8]{0}) while(%a), condition=%condition, body=%body, metadata={op_name="jit(f)/while"}
}
""")
    assert [times for i, _, times in loop.walk(fused=False) if i.name == "y"] == [12]
