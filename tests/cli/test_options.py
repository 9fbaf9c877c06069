"""The fields of an experiment as options."""

from ssljax.cli.shared import TrainOptions, parse_with_experiment
from ssljax.data import BPE, Titles

FILE = """
from ssljax import Experiment
from ssljax.data import BPE, NGrams, Titles
config = Experiment(name="shop", titles={titles})
"""


def test_the_fields_of_titles_are_options(tmp_path):
    file = tmp_path / "shop.py"
    file.write_text(FILE.format(titles="Titles(BPE())"))
    arguments = ["--titles.length", "16", "--titles.tokenizer.vocabulary", "500", "--batch-size", "8"]
    _, options = parse_with_experiment(TrainOptions, "train", [str(file), *arguments])
    assert options.experiment.titles == Titles(BPE(500), length=16)
    assert options.experiment.batch_size == 8


def test_an_experiment_without_titles_stays_without(tmp_path):
    file = tmp_path / "shop.py"
    file.write_text(FILE.format(titles="None"))
    _, options = parse_with_experiment(TrainOptions, "train", [str(file), "--epochs", "3"])
    assert options.experiment.titles is None and options.experiment.epochs == 3
