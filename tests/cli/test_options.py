"""The fields of an experiment as options."""

import pytest

from ssljax.cli.shared import TrainOptions, parse_with_experiment
from ssljax.data import BPE, Titles
from ssljax.models import ViT

FILE = """
from ssljax import Experiment
from ssljax.data import BPE, NGrams, Titles
config = Experiment(name="shop", titles={titles})
"""
NETWORKS = """
from ssljax import Experiment
from ssljax.methods import SimCLR
from ssljax.models import Preprocessing, Pretrained, ViT
encoder = Pretrained(ViT(variant="Ti", layer_scale=1e-5), weights=None, preprocessing=Preprocessing())
config = Experiment(name="shop", method=SimCLR(encoder=encoder))
"""


def test_the_fields_of_titles_are_options(tmp_path):
    file = tmp_path / "shop.py"
    file.write_text(FILE.format(titles="Titles(BPE())"))
    arguments = ["--titles.length", "16", "--titles.tokenizer.vocabulary", "500", "--batch-size", "8"]
    _, options = parse_with_experiment(TrainOptions, "train", [str(file), *arguments])
    assert options.experiment.titles == Titles(BPE(500), length=16)
    assert options.experiment.batch_size == 8


@pytest.mark.parametrize("titles, read", [("None", None), ("Titles(BPE())", Titles(BPE()))])
@pytest.mark.parametrize("option", ["--titles None", "--titles=None"])
def test_a_part_may_be_left_out_and_stays_out(titles, read, option, tmp_path):
    file = tmp_path / "shop.py"
    file.write_text(FILE.format(titles=titles))
    arguments = ["--restart", *option.split(), "--epochs", "3", "--cache", "None"]
    _, options = parse_with_experiment(TrainOptions, "train", [str(file), *arguments])
    assert options.restart and options.experiment.titles is None and options.experiment.epochs == 3
    _, options = parse_with_experiment(TrainOptions, "train", [str(file), "--epochs", "3"])
    assert options.experiment.titles == read


def test_a_part_of_a_part_may_be_left_out(tmp_path):
    file = tmp_path / "shop.py"
    file.write_text(NETWORKS)
    arguments = ["--method.encoder.preprocessing", "None", "--method.encoder.module.layer-scale", "None"]
    _, options = parse_with_experiment(TrainOptions, "train", [str(file), *arguments])
    encoder = options.experiment.method.encoder
    assert encoder.preprocessing is None and encoder.module == ViT(variant="Ti", layer_scale=None)


@pytest.mark.parametrize(
    "arguments", [["--titles.length", "None"], ["--optimizer", "None"], ["--titels", "None"], ["--titles", "none"]]
)
def test_what_may_not_be_none_is_refused(arguments, tmp_path, capsys):
    file = tmp_path / "shop.py"
    file.write_text(FILE.format(titles="Titles(BPE())"))
    with pytest.raises(SystemExit):
        parse_with_experiment(TrainOptions, "train", [str(file), *arguments])
    assert arguments[0] in capsys.readouterr().err
