"""Traces graphs into an ONNX file, in float32 or int8."""

import contextlib
import logging
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from fairseq_nart.generation.graph import Graph
from fairseq_nart.layers import exporting

OPSET = 18


class _Traced(nn.Module):
    """A graph as the module that torch's exporter takes, with positional inputs and outputs."""

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.graph = graph
        self.model = graph.model  # its weights must be known to the tracer

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.graph.compute(**dict(zip(self.graph.example, inputs))).values())


def write(graphs: list[Graph], file: Path, precision: str) -> None:
    """Writes graphs in float32 or int8 into one file: see `join`."""
    models = {}
    with tempfile.TemporaryDirectory() as folder:
        traced, quantized = (Path(folder) / name for name in ("traced.onnx", "int8.onnx"))
        for graph in graphs:
            _write_float32(graph, traced)
            if precision == "int8":
                quantize(traced, quantized)
            models[graph.name] = onnx.load(quantized if precision == "int8" else traced)
    onnx.save(join(models), file)


def join(models: dict[str, onnx.ModelProto]) -> onnx.ModelProto:
    """Joins graphs by name, so that they share a session of ONNX Runtime and its threads.

    The input NAME, false by default, says whether graph NAME is computed. Its inputs and outputs
    are called NAME.INPUT and NAME.OUTPUT. Without a value they are empty.
    """
    joined = onnx.GraphProto(name="model")
    for name, model in models.items():
        graph = model.graph
        outputs = [_of_any_size(x, f"{name}.{x.name}") for x in graph.output]
        _shorten_names(graph, name)
        for value in (helper.make_tensor_value_info(name, TensorProto.BOOL, []), *graph.input):
            joined.input.append(value)
            joined.initializer.append(_empty(value))
        empty = [helper.make_node("Constant", [], [x.name], value=_empty(x)) for x in graph.output]
        results = [_of_any_size(x, x.name) for x in graph.output]
        node = helper.make_node(
            "If",
            [name],
            [x.name for x in outputs],
            then_branch=helper.make_graph(graph.node, "then", [], results, graph.initializer),
            else_branch=helper.make_graph(empty, "else", [], results),
        )
        joined.node.append(node)
        joined.output.extend(outputs)
    first = next(iter(models.values()))
    result: onnx.ModelProto = helper.make_model(
        joined, opset_imports=first.opset_import, ir_version=first.ir_version
    )
    return result


def _of_any_size(value: onnx.ValueInfoProto, name: str) -> onnx.ValueInfoProto:
    kind = value.type.tensor_type
    result: onnx.ValueInfoProto = helper.make_tensor_value_info(
        name, kind.elem_type, [None] * len(kind.shape.dim)
    )
    return result


def _empty(value: Any) -> onnx.TensorProto:
    """A constant of the type of `value`; dimensions of any size are 0."""
    kind = value.type.tensor_type
    sizes = [size.dim_value for size in kind.shape.dim]
    array = np.zeros(sizes, helper.tensor_dtype_to_np_dtype(kind.elem_type))
    return numpy_helper.from_array(array, value.name)


def _shorten_names(graph: onnx.GraphProto, name: str) -> None:
    """Numbers nodes and tensors, and puts `name` before inputs. The names of the exporter are a
    fifth of a small model's file."""
    names = {"": "", **{x.name: f"{name}.{x.name}" for x in graph.input}}

    def short(old: str) -> str:
        return names.setdefault(old, f"{name}{len(names):x}")

    for tensor in (*graph.initializer, *graph.input, *graph.output):
        tensor.name = short(tensor.name)
    for node in graph.node:
        node.name = node.doc_string = ""
        node.input[:] = map(short, node.input)
        node.output[:] = map(short, node.output)
    del graph.value_info[:]


def _write_float32(graph: Graph, file: Path) -> None:
    inputs = tuple(graph.example.values())
    with _quiet(), torch.no_grad(), exporting.activated():
        outputs = graph.compute(**graph.example)
        tensors = {**graph.example, **outputs}
        torch.onnx.export(
            _Traced(graph).eval(),  # torch restores the mode that it finds
            inputs,
            str(file),
            dynamo=False,  # with torch.export, the sizes of the example become constants
            opset_version=OPSET,
            custom_opsets={"com.microsoft": 1},
            input_names=list(graph.example),
            output_names=list(outputs),
            dynamic_axes={
                name: {
                    axis: f"{name}_{axis}" for axis in graph.sizes.get(name, range(2))[: x.dim()]
                }
                for name, x in tensors.items()
            },
        )


def quantize(float32: Path, file: Path) -> None:
    """Quantizes an ONNX file: weights once, the inputs of products at each call."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with _quiet():
        quantize_dynamic(float32, file, weight_type=QuantType.QInt8)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hides what the libraries log about each node, and that torch will drop its tracer."""
    root = logging.getLogger()
    level = root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
