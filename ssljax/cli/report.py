"""`ssljax report`: writes the page of a run anew."""

import dataclasses

import tyro

from ssljax.cli.shared import RunFolder, TrustCode, check_at_least_one, complete_experiment_of
from ssljax.data.atomic_files import read_json
from ssljax.report import MOST
from ssljax.report.finished_run import report as write_report
from ssljax.training import export
from ssljax.training.logging import print_result
from ssljax.training.run_folder import Run


@dataclasses.dataclass(frozen=True)
class ReportOptions:
    """Write RUN/report.html anew."""

    run: RunFolder
    by: str | None = None
    """The column that colours the map and groups failures; by default the first Retrieval's `by`, or else the label,
    or else the first attribute."""
    most: int = MOST
    """Failures shown of each category."""
    trust_code: TrustCode = False


def main(arguments: list[str]) -> None:
    """`ssljax report RUN [OPTIONS]`."""
    options = tyro.cli(ReportOptions, args=arguments, prog="ssljax report")
    check_at_least_one(most=options.most)
    run = Run(options.run)
    experiment = complete_experiment_of(run, options.trust_code)
    read_json(run.environment, "the same `ssljax train` command writes it anew")
    embed = export.saved_embeddings(run)
    print_result(write_report(run, experiment, experiment.data.load, embed, by=options.by, most=options.most))
