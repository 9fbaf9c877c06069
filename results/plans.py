"""Plans the experiments on the machines that they are meant for, and writes results/plans/*.json.

python results/plans.py                          all of them; large ones compile for many minutes
python results/plans.py experiments/imagenet/dino.py ...

An experiment names its machine by a line of its docstring: ssljax plan experiments/imagenet/dino.py --on v5e:4x4
Further lines are of other machines, and their records have the machine's name.
"""

import re
import subprocess
import sys

from commands import ROOT

LINE = re.compile(r"^ssljax plan (experiments/\S+\.py) (.*)$", re.MULTILINE)


def lines() -> list[tuple[str, str, list[str]]]:
    """Experiment file, name of the record, and options of each plan that a docstring has a line for."""
    found = []
    for path in sorted((ROOT / "experiments").rglob("*.py")):
        name = "_".join(path.relative_to(ROOT / "experiments").with_suffix("").parts)
        for further, line in enumerate(LINE.finditer(path.read_text())):
            options = line[2].split()
            machine = "_" + re.sub(r"\W", "_", options[options.index("--on") + 1])
            found.append((line[1], name + machine * (further > 0), options))
    return found


def main() -> None:
    """Plans all, or those that the command line names."""
    for file, name, options in lines():
        if file in sys.argv[1:] or not sys.argv[1:]:
            command = [sys.executable, "-m", "ssljax.cli", "plan", file, *options]
            command += ["--step-only", "--json", f"results/plans/{name}.json"]  # the step needs most, and takes longest
            done = subprocess.run(command, cwd=ROOT)
            if done.returncode not in (0, 1):  # 1: it does not fit, which the record says too
                sys.exit(f"{' '.join(command)} failed")


if __name__ == "__main__":
    main()
