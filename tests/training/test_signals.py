"""Ctrl-C and SIGTERM end a command at once, whatever the main thread does, unless it has asked to save first."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from test_end_to_end import QUICKSTART, SMALL

BUSY = "hashlib.pbkdf2_hmac('sha256', b'', b'', 10**9)"  # minutes in C, with no signal looked at
PROGRAMS = {
    "busy": f"print('go', flush=True); {BUSY}",
    "asked": f"""
with StopRequest(lambda: print('saving', flush=True)) as stop:
    print('go', flush=True)
    while not stop.asked:
        time.sleep(0.01)
    print('saved', flush=True)
print('go', flush=True); {BUSY}""",
    "asked while busy": f"""
with StopRequest(lambda: None) as stop:
    print('go', flush=True)
    {BUSY}""",
    "an event loop": """
class Loop(asyncio.SelectorEventLoop):  # as uvloop has it: it takes the wake-up for itself
    def run_forever(self):
        signal.set_wakeup_fd(-1)
        super().run_forever()
async def wait():
    print('go', flush=True)
    while True:
        await asyncio.sleep(0.05)
with asyncio.Runner(loop_factory=Loop) as runner:
    runner.run(wait())""",
    "workers": f"""
worker = multiprocessing.get_context('fork').Process(target=time.sleep, args=(600,))
worker.start()
print('go', flush=True); {BUSY}""",
}
START = """
import asyncio, hashlib, multiprocessing, signal, time
from ssljax.training.signals import StopRequest, end_at_signals
end_at_signals("Interrupted.")
"""


def started(command: list[str]) -> subprocess.Popen:
    """As a terminal starts it: a shell's background job, such as these tests may be, ignores SIGINT."""
    default = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)  # noqa: E731
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=default, bufsize=1
    )


def ended(process: subprocess.Popen) -> tuple[int, str]:
    """Its exit code and what it had still to say, within seconds."""
    out, errors = process.communicate(timeout=20)
    return process.returncode, out + errors


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_main_thread_that_never_looks_is_ended(number, code):
    process = started([sys.executable, "-c", START + PROGRAMS["busy"]])
    assert process.stdout.readline() == "go\n"
    process.send_signal(number)
    assert ended(process) == (code, "Interrupted.\n")


def test_who_asked_is_told_once_and_then_no_longer():
    process = started([sys.executable, "-c", START + PROGRAMS["asked"]])
    assert process.stdout.readline() == "go\n"
    process.send_signal(signal.SIGTERM)
    assert [process.stdout.readline() for _ in range(3)] == ["saving\n", "saved\n", "go\n"]
    process.send_signal(signal.SIGINT)
    assert ended(process) == (130, "Interrupted.\n")


def test_the_second_ctrl_c_ends_at_once_also_while_the_first_is_not_yet_looked_at():
    process = started([sys.executable, "-c", START + PROGRAMS["asked while busy"]])
    assert process.stdout.readline() == "go\n"
    process.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=0.3)
    process.send_signal(signal.SIGINT)
    assert ended(process) == (130, "Interrupted.\n")


def test_a_main_thread_whose_event_loop_has_the_wake_up_is_ended():
    process = started([sys.executable, "-c", START + PROGRAMS["an event loop"]])
    assert process.stdout.readline() == "go\n"
    process.send_signal(signal.SIGINT)
    assert ended(process) == (130, "Interrupted.\n")


def test_worker_processes_end_too():
    process = started([sys.executable, "-c", START + PROGRAMS["workers"]])
    assert process.stdout.readline() == "go\n"
    process.send_signal(signal.SIGINT)
    assert ended(process) == (130, "Interrupted.\n")  # the pipes that the worker holds too are closed


def interrupted_at(line: str, folder: Path, number: int, *options: str) -> tuple[int, str]:
    """The exit code of a training that gets a signal once it has said `line`, and what it says then."""
    command = [sys.executable, "-m", "ssljax.cli", "train", QUICKSTART, *SMALL, "--runs", str(folder), *options]
    process = started(command)
    said = ""
    while not re.search(line, said):
        said += process.stderr.readline()
        assert said.endswith("\n"), said
    process.send_signal(number)
    return ended(process)


def test_a_training_that_compiles_has_nothing_to_save(tmp_path):
    code, said = interrupted_at("Compiling", tmp_path, signal.SIGINT)
    assert code == 130
    assert said == "Interrupted. The same command goes on from the last checkpoint, if there is one.\n"
    assert not list((tmp_path / "quickstart" / "checkpoints").iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("line, options", [("photos,", ()), ("Embedding and", ()), ("Compiling", ("--workers", "2"))])
def test_a_training_is_ended_at_any_moment(line, options, number, code, tmp_path):
    assert interrupted_at(line, tmp_path, number, *options)[0] == code
    assert not list((tmp_path / "quickstart").glob(".*"))
