"""A script in two processes that are one training, of four devices each."""

import os
import socket
import subprocess
import sys
from pathlib import Path


def together() -> list[dict[str, str]]:
    """The environments of both."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    flags = os.environ["XLA_FLAGS"].replace("device_count=8", "device_count=4")
    common = {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": "2", "XLA_FLAGS": flags}
    return [os.environ | common | {"JAX_PROCESS_ID": str(i)} for i in range(2)]


def outputs_of_two(script: str, *arguments: object) -> list[str]:
    """What both print, if both end well; the script may import what tests do, and the modules of the tests' folders."""
    here = Path(__file__).parent
    folders = [*map(str, (here, *(path for path in here.iterdir() if path.is_dir())))]
    path = os.pathsep.join([*folders, *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-c", script, *map(str, arguments)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    both = [subprocess.Popen(command, env=e | {"PYTHONPATH": path}, **pipes) for e in together()]
    said = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    return [out for out, _ in said]
