"""ONNX through jax2onnx: one file with the weights and the preprocessing of photos, also in float16 or 8 bits.

The photos' part of the graph stays in float32 in all of them.
"""

# What is imported in functions is an extra, which is not installed where types are checked; there `onnx` is this file.
# pyright: reportMissingImports=false, reportAttributeAccessIssue=false

import logging
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.extend.core import jaxpr_as_fun

from ssljax.data.atomic_files import replace_file
from ssljax.export.network import Network, trial_photos
from ssljax.types import UserError

FILE = "model.onnx"
SMALLER = {"float16": "model.float16.onnx", "int8": "model.int8.onnx"}
OPSET = 20

Session = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Photos u8[B, S, S, 3] and aspect ratios f32[B] → embeddings f32[B, D]"""


def write_onnx(network: Network, folder: Path, kinds: Sequence[str] = ()) -> float:
    """Writes model.onnx, and what `kinds` name of SMALLER; returns how far its embeddings are from `ssljax embed`'s.

    A network that trains in bfloat16 is exported in float32, as ONNX Runtime has few operations in bfloat16. Raises
    UserError if there is an operation that cannot be converted.
    """
    network, size, side = network.in_float32(), network.experiment.photo_size, network.view_size()
    (batch,) = jax.export.symbolic_shape("batch")
    image = jax.ShapeDtypeStruct((batch, size, size, 3), np.uint8)
    aspect, view = (jax.ShapeDtypeStruct(s, np.float32) for s in ((batch,), (batch, side, side, 3)))
    photos = _converted(network.view, {"image": image, "aspect": aspect}, "view")
    encoder = _folded(_converted(network.embed, {"view": view}, "embedding"))
    _write(folder / FILE, photos, encoder)
    for kind, name in SMALLER.items():
        if kind not in kinds:
            (folder / name).unlink(missing_ok=True)  # it may be of another network
            continue
        _write(folder / name, photos, {"float16": _float16, "int8": _int8}[kind](encoder))
    trial = trial_photos(size)
    return network.difference(*trial, session(folder / FILE)(*trial))


def session(path: Path) -> Session:
    """An exported file in ONNX Runtime, on the CPU."""
    import onnxruntime

    opened: Any = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda image, aspect: opened.run(None, {"image": image, "aspect": aspect})[0]


def _converted(function: Callable, inputs: dict[str, jax.ShapeDtypeStruct], output: str) -> Any:
    from jax2onnx import to_onnx

    logging.getLogger("onnx_ir").setLevel(logging.ERROR)  # it warns of each shape whose type is not known
    # jax2onnx changes functions of jax.numpy while it traces, and then refuses some of their arguments: it gets the
    # primitives instead.
    plain = jaxpr_as_fun(jax.jit(function).trace(*inputs.values()).jaxpr)
    names = {"input_names": list(inputs), "output_names": [output], "model_name": output}
    try:
        return to_onnx(lambda *arrays: plain(*arrays)[0], list(inputs.values()), opset=OPSET, **names)
    except Exception as error:  # whatever its plugins stumble over
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"to=onnx: jax2onnx cannot convert this network ({reason}): use stablehlo") from error


def _write(path: Path, photos: Any, encoder: Any) -> None:
    from onnx import checker, compose

    view, embedding = (
        compose.add_prefix(part, prefix, rename_inputs=False, rename_outputs=False)
        for part, prefix in ((photos, "photos/"), (encoder, "network/"))
    )
    whole = compose.merge_models(view, embedding, [("view", "view")], name="embedding", producer_name="ssljax")
    checker.check_model(whole)
    content = whole.SerializeToString()
    replace_file(path, lambda file: file.write(content))


def _folded(graph: Any) -> Any:
    """The graph with what is constant computed, such as transposed weights: so they are found to be made smaller."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    return _through_files(graph, lambda *files: quant_pre_process(*files, skip_symbolic_shape=True))


def _float16(encoder: Any) -> Any:
    """The graph with weights and sums in float16, and float32 at both ends."""
    from onnxruntime.transformers.float16 import convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    half = OnnxModel(convert_float_to_float16(encoder, keep_io_types=True))
    half.topological_sort()
    return half.model


def _int8(encoder: Any) -> Any:
    """The graph with weights in 8 bits; what they are multiplied by is rounded to 8 bits as it comes (dynamic).

    Convolutions in groups stay as they are. Those of one channel each have few weights, whose ranges differ most from
    channel to channel, so that one scale for all would cost most there.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.onnx_model import ONNXModel

    products = ONNXModel(encoder)
    products.replace_gemm_with_matmul()  # which alone is quantised
    encoder = products.model
    kept = [node.name for node in encoder.graph.node if any(a.name == "group" and a.i > 1 for a in node.attribute)]
    settings = {"weight_type": QuantType.QUInt8, "nodes_to_exclude": kept}  # no convolution there has signed weights
    return _through_files(encoder, lambda *files: quantize_dynamic(*files, **settings))


def _through_files(graph: Any, convert: Callable[[Path, Path], object]) -> Any:
    import onnx

    with tempfile.TemporaryDirectory() as folder:
        before, after = Path(folder, "before.onnx"), Path(folder, "after.onnx")
        onnx.save(graph, before)
        convert(before, after)
        return onnx.load(after)
