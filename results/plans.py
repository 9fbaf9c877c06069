"""Plans the experiments on the machines that they are meant for, and writes results/plans/*.json.

python results/plans.py                          all of them; large ones compile for many minutes
python results/plans.py experiments/imagenet/dino.py ...

An experiment names its machine by a line of its docstring: ssljax plan experiments/imagenet/dino.py --on v5e:4x4
"""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LINE = re.compile(r"^ssljax plan (experiments/\S+\.py) (.*)$", re.MULTILINE)


def lines() -> dict[str, list[str]]:
    """Experiment file → the options of its plan, of the docstrings that have such a line."""
    texts = (path.read_text() for path in sorted((ROOT / "experiments").rglob("*.py")))
    return {found[1]: found[2].split() for text in texts if (found := LINE.search(text))}


def main() -> None:
    """Plans all, or those that the command line names."""
    for file, machine in lines().items():
        if file in sys.argv[1:] or not sys.argv[1:]:
            name = "_".join(Path(file).relative_to("experiments").with_suffix("").parts)
            command = [sys.executable, "-m", "ssljax.cli", "plan", file, *machine]
            options = ("--step-only", "--json", f"results/plans/{name}.json")  # the step needs most, and takes longest
            done = subprocess.run([*command, *options], cwd=ROOT)
            if done.returncode not in (0, 1):  # 1: it does not fit, which the record says too
                sys.exit(f"{' '.join(command)} failed")


if __name__ == "__main__":
    main()
