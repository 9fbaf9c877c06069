"""`ssljax robustness`: measures what a run still finds when photos are disturbed."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Annotated, Any

import tyro

from ssljax.cli.shared import (
    Network,
    OtherData,
    RunFolder,
    TrustCode,
    command_line,
    experiment_of,
    on_other_data,
    print_figures,
)
from ssljax.config import resolved
from ssljax.data import Items
from ssljax.data.atomic_files import write_json
from ssljax.data.bad_inputs import BadInputs
from ssljax.data.text import did_you_mean
from ssljax.evaluation import Robustness
from ssljax.evaluation.disturbed import Pool, measure
from ssljax.evaluation.restore import NETWORK_ALONE, Restored
from ssljax.evaluation.robustness import Curve, summary
from ssljax.report import write_robustness
from ssljax.training.logging import console
from ssljax.training.run_folder import Run, environment
from ssljax.types import UserError
from ssljax.views.disturbances import DISTURBANCES, Disturbance


@dataclasses.dataclass(frozen=True)
class RobustnessOptions:
    """Measure what a complete run still finds when photos are disturbed, and write RUN/robustness.html."""

    run: RunFolder
    data: OtherData = None
    """Another experiment file, whose data and first Retrieval replace the run's."""
    network: Network = "student"
    """Whose figures the table has, and whose failures the examples show; the page has the curves of both networks,
    unless this one is measured alone."""
    alone: bool = False
    """Leave the other network out, which takes half of the time."""
    kinds: tuple[str, ...] = ()
    """What is disturbed, such as Perspective Watermark; all kinds by default. What was measured before is replaced."""
    suite: Annotated[Robustness, tyro.conf.arg(name="")] = Robustness()
    trust_code: TrustCode = False

    @property
    def disturbances(self) -> list[Disturbance]:
        """Those of the kinds; raises UserError if there is no such kind."""
        there = {type(disturbance).__name__: disturbance for disturbance in DISTURBANCES}
        for kind in self.kinds:
            if kind not in there:
                raise UserError(f"kinds={kind} is no disturbance{did_you_mean(kind, list(there))}")
        return [there[kind] for kind in dict.fromkeys(self.kinds or there)]


def main(arguments: list[str]) -> None:
    """`ssljax robustness RUN [DATA] [OPTIONS]`."""
    options = tyro.cli(RobustnessOptions, args=arguments, prog="ssljax robustness")
    run, data, suite, network = Run(options.run), "", options.suite, options.network
    without = ("sampler", "monitor") if options.data is None else NETWORK_ALONE
    experiment = experiment_of(run, options.trust_code, without)
    if options.data is not None:
        experiment, data = on_other_data(experiment, options.data)
    restored = Restored.of(run, experiment)
    restored.check_network(network)
    networks = (network,) if options.alone else restored.embedder.networks
    command = command_line("robustness", arguments)
    results, curves = _measure(restored, suite, options.disturbances, network, networks, data=data, command=command)
    if results["without"]:
        console.print("Only photos are disturbed and compared: their titles, which the network reads too, are hidden.")
    queries = f"{results['queries']:,} of {results['queries_in_all']:,} queries"
    console.print(f"{queries} in {results['items']:,} photos. The page is {run.robustness(data).with_suffix('.html')}.")
    print(
        f"CMC@1: the {network}'s area relative to clean, by what is disturbed; and its value and that of raw "
        f"pixels at strength {suite.medium:g} ({suite.sides[0]})"
    )
    print_figures(summary(curves, suite, network))


def _measure(
    restored: Restored,
    suite: Robustness,
    disturbances: Sequence[Disturbance],
    network: str,
    networks: Sequence[str],
    *,
    data: str,
    command: str,
) -> tuple[dict[str, Any], list[Curve]]:
    """Measures `networks`, and writes robustness.html and then robustness.json into the run folder; gives what they
    hold.

    Examples are of what `network` lost. `data` names other data than the run's own, and becomes a part of the files'
    names; blank for its own. `command` is what measures it again.
    """
    run, experiment, embedder = restored.run, restored.experiment, restored.embedder

    def bad(items: Items) -> BadInputs:
        return BadInputs(run.bad_inputs(data), total=len(items), limit=experiment.max_bad_share)

    ways = {name: functools.partial(embedder.batch, restored.state, network=name) for name in networks}
    pool = Pool.of(experiment, restored.load, bad, ways, suite)
    curves, examples = measure(pool, suite, disturbances, network)
    results = {
        "name": experiment.name,
        "network": network,
        "kinds": [type(disturbance).__name__ for disturbance in disturbances],
        "without": "titles" if restored.titles and not embedder.embeds_titles else "",
        "command": command,
        "data": data or experiment.name,
        "split": pool.retrieval.split,
        "gallery": pool.retrieval.searched,
        "relevant": pool.retrieval.meaning,
        "queries": pool.count,
        "queries_in_all": pool.positives,
        "items": len(pool.gallery),
        "suite": resolved(suite),
        "medium": suite.medium,
        "curves": [dataclasses.asdict(curve) | {"area": curve.area} for curve in curves],
        "environment": environment(),
    }
    path = run.robustness(data)
    write_robustness(path.with_suffix(".html"), results, curves, examples)
    write_json(path, results)
    return results, curves
