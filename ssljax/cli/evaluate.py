"""`ssljax evaluate`: evaluates a run again, or on other data."""

import dataclasses

import tyro

from ssljax.cli.shared import (
    EXPORTS,
    OtherData,
    RunFolder,
    TrustCode,
    command_line,
    experiment_of,
    on_other_data,
    print_figures,
    print_verdict,
)
from ssljax.config import resolved
from ssljax.data.atomic_files import write_json
from ssljax.evaluation.restore import NETWORK_ALONE, Restored, check_evaluation
from ssljax.training import export
from ssljax.training.logging import console
from ssljax.training.run_folder import Run, environment


@dataclasses.dataclass(frozen=True)
class EvaluateOptions:
    """Evaluate a complete run again, and write its results, index and report anew."""

    run: RunFolder
    data: OtherData = None
    """Another experiment file, whose data and evaluators replace the run's; then only RUN/evaluation-NAME.json is
    written."""
    trust_code: TrustCode = False


def main(arguments: list[str]) -> None:
    """`ssljax evaluate RUN [DATA]`."""
    options = tyro.cli(EvaluateOptions, args=arguments, prog="ssljax evaluate")
    run = Run(options.run)
    experiment = experiment_of(run, options.trust_code, () if options.data is None else NETWORK_ALONE)
    if options.data is None:
        results = export.finish(Restored.of(run, experiment, evaluate=True), EXPORTS)
        print_figures(export.shown_table(results))
        print_verdict(results)
        return
    experiment, name = on_other_data(experiment, options.data)
    restored = Restored.of(run, experiment, bad_inputs=run.bad_inputs(name))
    check_evaluation(experiment.evaluate, (), restored.load, experiment.method)
    table = export.evaluate(experiment, export.table_rows(restored))
    verdict = export.verdict(experiment, table)
    results = {"data": name, "command": command_line("evaluate", arguments), "table": table, "verdict": verdict}
    write_json(run.evaluation(name), results | {"environment": environment()})
    print_figures(export.shown_table(results | {"config": resolved(experiment)}))
    print_verdict(results)
    console.print(f"The figures are in {run.evaluation(name)} too.")
