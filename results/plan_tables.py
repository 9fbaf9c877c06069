"""Tables of what `ssljax plan` says of the experiments, by results/plans/*.json."""

import json

from markdown_table import HERE, NOT_RUN, markdown


def plans() -> str:
    """A line for each plan of an experiment on the machine that it is for, by `ssljax plan FILE --json`."""
    rows, kinds = [], []
    for path in sorted((HERE / "plans").glob("*.json")):
        plan = json.loads(path.read_text())
        kinds.append(set(plan["programs"]))
        time, parts = plan["time"] or {}, plan["parts"].values()
        needed, compiled = (sum(part[name] for part in parts) for name in ("needed", "compiled"))
        by = f"by the {time['source']}{' and a fit' * bool(time.get('fitted'))}" if time else ""
        speed = [f"{time['mfu']:.0%}, {by}", f"{time['images_per_second']:,.0f}"] if time else ["", ""]
        rows.append(
            [
                *(plan["experiment"], plan["target"], f"{plan['batch_size']:,}", "yes" if plan["fits"] else "no"),
                f"{plan['needed'] / 2**30:.1f} of {plan['available'] / 2**30:.1f}",
                f"{needed / plan['batch_size'] / 1e9:.3g} ({round(compiled / needed, 3):.1%})" if compiled else "",
                f"{sum(t['bytes'] for t in plan['collectives']) / 2**20:,.0f}",
                *speed,
                f"{time['hours']:,.1f} ({time['chip_hours']:,.0f})" if time.get("hours") else "",
                _compiled_in(plan),
            ]
        )
    header = ["experiment", "machine", "batch", "fits", "GiB of a chip", "GFLOP an image (share of it in the program)"]
    header += ["MiB that travel a step", "MFU", "images/s", "hours (chip-hours)", "CPU seconds to compile the step"]
    title = "Plans; times and MFU are estimates. Where CPU seconds were not taken, the clock's stand, of busy cores"
    if all(programs == {"step"} for programs in kinds):
        title += ". Only the training step was compiled (`--step-only`): initialisation and evaluation may need more"
    return f"{title}:\n\n" + markdown(header, rows or [[NOT_RUN, *[""] * 10]])


def before_and_after() -> str:
    """Two lines for each step of plans_before.json: what it was, and what the plan of its experiment says."""
    record, rows = json.loads((HERE / "plans_before.json").read_text()), []
    for one in record["steps"]:
        rows.append([one["step"], record["commit"], *_step(one)])
        path = HERE / "plans" / f"{one['plan']}.json"
        plan = json.loads(path.read_text()) if path.exists() else {"time": None}
        if plan["time"] is None:
            rows.append(["", "now", "not measured", *[""] * 7])
            continue
        parts, memory = plan["parts"].values(), plan["memory"]
        now = {name: sum(part[name] for part in parts) / plan["chips"] / 1e9 for name in ("needed", "compiled")}
        now |= {"cycles": sum(part["cycles"] for part in parts) / 1e6, "mfu": plan["time"]["mfu"]}
        now["mib"] = sum(moved["bytes"] for moved in plan["collectives"]) / 2**20
        now |= {"gib": (memory["activations"] + memory["views"]) / 2**30, "seconds": _compiled_in(plan)}
        rows.append(["", "now", *_step(plan | now)])
    header = [
        "step",
        "",
        "machine, batch",
        "million cycles",
        "GFLOP of a chip",
        "needed",
        "GiB beside the state",
        "MiB that travel",
        "MFU",
    ]
    title = (
        f"What the compiler for v5e said of steps at commit {record['commit']}, and what it says now. Times are "
        "estimates; empty cells were not measured. Seconds to compile are those of a clock before, on shared cores"
    )
    return f"{title}:\n\n" + markdown([*header, "seconds to compile"], rows)


def _compiled_in(plan: dict) -> str:
    """CPU seconds of compiling the step, or the clock's where those were not taken."""
    if cores := plan.get("compile_cpu_seconds"):
        return f"{cores['step']:,.0f}"
    return f"{plan['compile_seconds']['step']:,.0f} by the clock"


def _step(step: dict) -> list[str]:
    """Where a step runs, and its figures, empty where there is none."""
    forms = {"cycles": ".1f", "compiled": ",.0f", "needed": ",.0f", "gib": ".1f", "mib": ",.0f", "mfu": ".1%"}
    forms["seconds"] = ""
    batch = f", {step['batch_size']:,}" if step["batch_size"] else ""
    return [step["target"] + batch, *("" if step[name] is None else format(step[name], f) for name, f in forms.items())]
