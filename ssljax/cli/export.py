"""`ssljax export`: writes a run's network in a format that other programs load."""

import dataclasses
import importlib.util
from pathlib import Path
from typing import Annotated, Literal

import tyro

from ssljax.cli.shared import Network as NetworkName
from ssljax.cli.shared import RunFolder, TrustCode, experiment_of, results_of, writing
from ssljax.data.atomic_files import write_text
from ssljax.evaluation.restore import NETWORK_ALONE, Restored
from ssljax.export.card import card, figures_table
from ssljax.export.network import Network, Part
from ssljax.export.onnx import FILE as ONNX
from ssljax.export.onnx import SMALLER, session, write_onnx
from ssljax.export.preprocessing import write_preprocessing
from ssljax.export.recall import MEASURED, recall_of
from ssljax.export.stablehlo import write_stablehlo
from ssljax.export.tensors import timm_line, write_safetensors, write_timm
from ssljax.models.weights.layouts import written
from ssljax.training.export import licence_metadata, starts_in
from ssljax.training.logging import console, print_result
from ssljax.training.run_folder import Run
from ssljax.types import UserError

Format = Literal["safetensors", "timm", "onnx", "stablehlo", "savedmodel"]
NEEDED = {"onnx": ("jax2onnx", "onnx", "onnxruntime"), "stablehlo": ("flatbuffers",)}
TOLERANCE = 1e-4
PHOTOS = "from preprocess import photos, views  # preprocess.py, beside this card"


@dataclasses.dataclass(frozen=True)
class ExportOptions:
    """Write the network of a complete run in a format that other programs load, with preprocess.py, which turns photos
    into its input, and card.md, which says what it is."""

    run: RunFolder
    to: Format
    """safetensors: for `Pretrained`; timm: for PyTorch, of encoders that timm has; onnx: for ONNX Runtime and others;
    stablehlo: for JAX and XLA. savedmodel is not written: use onnx with TensorFlow. onnx and
    stablehlo need pip install 'ssljax[export]'."""
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """The folder to write; by default RUN/export/FORMAT."""
    network: NetworkName = "student"
    """Which of the run's networks, if it has a teacher."""
    part: Part | None = None
    """backbone: the encoder; projection: encoder and projector; by default what the run's embeddings are."""
    float16: bool = False
    """With onnx: write model.float16.onnx too, of half the size, and measure what it costs on the run's gallery."""
    int8: bool = False
    """With onnx: write model.int8.onnx too, of a quarter of the size, and measure what it costs."""
    trust_code: TrustCode = False


def main(arguments: list[str]) -> None:
    """`ssljax export RUN --to FORMAT`."""
    options = tyro.cli(ExportOptions, args=arguments, prog="ssljax export")
    smaller = [kind for kind in SMALLER if getattr(options, kind)]
    if options.to == "savedmodel":
        raise UserError("to=savedmodel is not written, as it needs TensorFlow: choose onnx, or stablehlo for XLA")
    if smaller and options.to != "onnx":
        raise UserError(f"--{smaller[0]} is an option for --to onnx: leave it out, or choose that")
    if missing := [name for name in NEEDED.get(options.to, ()) if importlib.util.find_spec(name) is None]:
        raise UserError(f"to={options.to} needs {missing[0]}, which is not installed: pip install 'ssljax[export]'")
    run = Run(options.run)
    without = ("sampler", "monitor") if smaller else NETWORK_ALONE
    experiment = experiment_of(run, options.trust_code, without)
    if not run.results.exists():
        raise UserError(f"{run.path} is not complete: train it to the end first")
    results = results_of(run, "the `ssljax evaluate` command writes it anew")
    network = Network.of(Restored.of(run, experiment), options.network, options.part)
    folder = options.output or run.path / "export" / options.to
    with writing(folder, "--output"):
        if options.to == "safetensors":
            write_safetensors(network, folder, experiment, licence_metadata(starts_in(results, experiment.method)))
        load, more = _write(network, options.to, folder, smaller)
        write_preprocessing(network, folder)
        write_text(folder / "card.md", card(experiment, results, load, more, f"{network.name}, {network.part}"))
    print_result(folder)


def _write(network: Network, to: Format, folder: Path, smaller: list[str]) -> tuple[str, str]:
    """Writes an export but safetensors; returns, as Markdown, how it is loaded, and what smaller ones cost."""
    if to == "safetensors":
        encoder = written(network.encoder)
        imports = f"from ssljax.models import {encoder.partition('(')[0]}, Pretrained"
        return _python(imports, f'encoder = Pretrained({encoder}, "model.safetensors")'), ""
    if to == "timm":
        write_timm(network, folder)
        load = 'network.eval()(torch.from_numpy(views(["photo.jpg"])))'
        return _python("import timm, torch", PHOTOS, timm_line(network), load), ""
    if to == "stablehlo":
        _check(write_stablehlo(network, folder), to)
        load = 'jax.export.deserialize(open("model.stablehlo", "rb").read()).call(**photos(["photo.jpg"]))'
        return _python("import jax.export", PHOTOS, load), ""
    _check(write_onnx(network, folder, smaller), to)
    load = 'onnxruntime.InferenceSession("model.onnx").run(None, photos(["photo.jpg"]))[0]'
    return _python("import onnxruntime", PHOTOS, load), _costs(network, folder, smaller) if smaller else ""


def _python(*lines: str) -> str:
    return "```python\n" + "\n".join(lines) + "\n```\n"


def _check(difference: float, to: str) -> None:
    said = f"the embeddings differ by {difference:.1e} from those of `ssljax embed`, relative to numbers above 1"
    if not difference <= TOLERANCE:
        raise UserError(f"to={to}: {said}, more than rounding explains: use another format")
    console.print(f"{said[:1].upper()}{said[1:]}.")


def _costs(network: Network, folder: Path, smaller: list[str]) -> str:
    """Measures what smaller exports cost; as Markdown."""
    files = [ONNX, *(SMALLER[kind] for kind in smaller)]
    console.print("Measuring recall on the gallery ...")
    found = recall_of(network.restored, {file: session(folder / file) for file in files})
    table = {file: {"bytes": (folder / file).stat().st_size, **found[file]} for file in files}
    for file in files[1:]:
        console.print(f"{file}: " + ", ".join(f"{name} {value:.4f}" for name, value in found[file].items()))
    return f"## Smaller files\n\nOf at most {MEASURED:,} photos of the gallery:\n\n{figures_table(table)}"
