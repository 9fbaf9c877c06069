"""`ssljax import`: reads an encoder's weights from a file of another library, and says how to use them."""

import ast
import dataclasses
import hashlib
import json
import math
from pathlib import Path
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import tyro

from ssljax.cli.shared import writing
from ssljax.config import from_json, public_classes, resolved
from ssljax.data.atomic_files import replace_file
from ssljax.models import (
    BagOfTokens,
    Fusion,
    Preprocessing,
    Pretrained,
    TextTransformer,
    preprocessing_of,
    weights_bytes,
)
from ssljax.models.weights.architecture import alternatives, contradicted, stated_pool, stated_settings
from ssljax.models.weights.layouts import guess, layout_of, written
from ssljax.models.weights.load import is_own, load_variables, read_cached
from ssljax.models.weights.location import PACKAGE, located
from ssljax.models.weights.names import Report
from ssljax.training.logging import console, print_result
from ssljax.types import UserError, settings


@dataclasses.dataclass(frozen=True)
class ImportOptions:
    """Read an encoder's weights from a file of another library (safetensors, torch or npz; no code in it is run),
    report which tensors are used, and print the experiment that evaluates them."""

    file: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="FILE")]
    """The file; or package:NAME for that of an installed Python package, or hf://user/name for one on the hub."""
    model: str | None = None
    """The encoder as an experiment has it, such as "ResNet(depth=50)"; by default what the weights look like."""
    part: str = "encoder"
    """Of a file with a student and a teacher, which of the two: by default the one that its authors evaluate."""
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """Write ssljax's own file, OUT.safetensors, with the module, the preprocessing and the source in it."""
    license: str | None = None
    """Of the weights, such as Apache-2.0; kept in OUT."""


def main(arguments: list[str]) -> None:
    """`ssljax import FILE [OPTIONS]`."""
    options = tyro.cli(ImportOptions, args=arguments, prog="ssljax import")
    output = options.output
    if output is not None and output.suffix != ".safetensors":
        raise UserError(f"output={output} must end in .safetensors: try {output.with_suffix('.safetensors').name}")
    file = read_cached(options.file)
    if is_own(file):
        raise UserError(f"{options.file} is ssljax's own already: Pretrained reads it as it is")
    module = _module(options)
    variables, report, stated = load_variables(options.file, module, options.part)
    assert report is not None  # of a file of another library
    of_titles = isinstance(module, TextTransformer | BagOfTokens)
    usual = preprocessing_of(module)
    preprocessing = stated or usual
    own = (preprocessing.mean, preprocessing.std) != (usual.mean, usual.std)
    encoder = Pretrained(module, options.file, options.part, preprocessing if own else None)
    view = jnp.zeros((1, preprocessing.size, preprocessing.size, 3))
    x = jnp.zeros((1, 1), jnp.int32) if of_titles else view
    jax.eval_shape(lambda: encoder.init(jax.random.PRNGKey(0), x, train=False))  # raises if a shape does not fit
    count = sum(x.size for name, x in variables.items() if name.startswith("params/"))
    console.print(f"{options.file} ({file.format}): {written(module)} with {count:,} parameters")
    _print_report(report)
    if output is not None:
        with open(located(options.file), "rb") as opened:
            digest = hashlib.file_digest(opened, "sha256").hexdigest()
        metadata = {
            "module": json.dumps(resolved(module)),
            **({} if of_titles else {"preprocessing": json.dumps(dataclasses.asdict(preprocessing))}),
            "source": Path(located(options.file)).name,
            "source_sha256": digest,
        }
        if options.license:
            metadata["license"] = options.license
        content = weights_bytes({"encoder": variables}, metadata)
        with writing(output, "--output"):
            replace_file(output, lambda opened: opened.write(content))
        print_result(output)
        encoder = dataclasses.replace(encoder, weights=str(output), part="encoder")
    if of_titles:
        console.print("An experiment that evaluates them as they are, on titles alone:\n")
        print(_title_experiment(encoder, options.file))
        return
    console.print("An experiment that evaluates them as they are; with epochs, it trains on from them:\n")
    print(_experiment(encoder, stated or dataclasses.replace(usual, fit="pad", share=1.0)))


def _module(options: ImportOptions) -> Any:
    """The encoder of the options, or else what the file's weights look like."""
    if options.model is not None:
        module = _parsed(options.model)
        layout_of(module)
        return module
    file = read_cached(options.file)
    if (module := guess(file.tensors)) is None:
        names = ", ".join(list(file.tensors)[:3])
        raise UserError(
            f"{options.file} looks like no encoder of ssljax, as it begins with {names}: name one that it is by --model"
        )
    if isinstance(module, TextTransformer) and (pool := stated_pool(located(options.file))):
        module = module.clone(pool=pool)
    stated = stated_settings(located(options.file), file.metadata, module)
    if contradicted(module, stated):
        return module.clone(**stated)
    choices = () if stated else alternatives(file.tensors, module)
    if len(choices) > 1:
        either = " or ".join(f'--model "{written(choice)}"' for choice in choices)
        raise UserError(
            f"{options.file} has the tensors of two networks and does not say which it is of: give {either}"
        )
    return module


def _parsed(text: str) -> Any:
    """A module as an experiment has it: the class of one of ssljax's models, and numbers, texts and tuples."""
    wrong = UserError(f"model={text!r} is not an encoder: write it as in an experiment, such as 'ResNet(depth=50)'")
    try:
        call = ast.parse(text.strip(), mode="eval").body
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
            raise wrong
        names = [field.name for field in settings(public_classes()[call.func.id])]
        given = zip(names, call.args, strict=False)
        fields = {name: ast.literal_eval(value) for name, value in given}
        fields |= {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in call.keywords}
    except (SyntaxError, ValueError, KeyError, TypeError, RecursionError, MemoryError):
        raise wrong from None
    return from_json({"class": call.func.id, **fields})


def _print_report(report: Report) -> None:
    left = [name for name in report.ignored if not name.endswith(".num_batches_tracked")]  # of each BatchNorm in torch
    count = len(report.matched)
    console.print(f"{count} tensor{'s are' if count > 1 else ' is'} used.")
    if left:
        console.print(f"An encoder has no use for {', '.join(left)}.")


def _definition(encoder: Pretrained, *others: type) -> tuple[str, str]:
    """The lines of an experiment file that import the encoder's classes, and `others`, and make it."""
    more = f", part={encoder.part!r}" * (encoder.part != "encoder")
    models = {kind.__name__ for kind in (Pretrained, type(encoder.module), *others)}
    if (own := encoder.preprocessing) is not None:
        more += f", preprocessing=Preprocessing(mean={own.mean}, std={own.std})"
        models.add("Preprocessing")
    made = f"encoder = Pretrained({written(encoder.module)}, {encoder.weights!r}{more})"
    return f"from ssljax.models import {', '.join(sorted(models))}", made


def _experiment(encoder: Pretrained, preprocessing: Preprocessing) -> str:
    """The lines of an experiment file, whose views do to photos what the weights expect."""
    imports, made = _definition(encoder)
    size, share = preprocessing.size, preprocessing.share
    views = f'size={size}, fit="{preprocessing.fit}"' + f", share={share:.4g}" * (share < 1)
    # a photo arrives squashed to a square: along the longer side of one of 4:3 its central square has 3/4 of the pixels
    longer = 4 / 3 if preprocessing.fit == "square" else 1
    return f"""\
from ssljax import Experiment
from ssljax.data import Catalogue
from ssljax.methods import SimCLR
{imports}
from ssljax.views import TwoCrops

{made}
config = Experiment(
    name="imported",
    data=Catalogue("catalogue.csv"),
    views=TwoCrops({views}, resampling="{preprocessing.resampling}"),
    method=SimCLR(encoder=encoder),
    photo_size={math.ceil(size / share * longer)},
    epochs=0,
    batch_size=64,
)"""


def _title_experiment(encoder: Pretrained, file: str) -> str:
    """The lines of an experiment file, with the tokenizer that lies beside the weights in `file`."""
    imports, made = _definition(encoder, Fusion)
    tokenizer = file if file.startswith(PACKAGE) else str(Path(located(file)).with_name("tokenizer.json"))
    plain = ", special_tokens=False" * isinstance(encoder.module, BagOfTokens)
    return f"""\
from ssljax import Experiment
from ssljax.data import Catalogue, Titles, TokenizerFile
from ssljax.methods import SimCLR
{imports}
from ssljax.views import PhotoAndTitle, TwoCrops

{made}
config = Experiment(
    name="imported",
    data=Catalogue("catalogue.csv", title="title"),
    titles=Titles(TokenizerFile({tokenizer!r}{plain})),
    views=PhotoAndTitle(TwoCrops(size=32)),
    method=SimCLR(encoder=Fusion(photo=None, title=encoder)),
    photo_size=32,
    epochs=0,
    batch_size=64,
)"""
