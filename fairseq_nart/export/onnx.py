"""Traces graphs into ONNX files, in float32 or int8."""

import contextlib
import logging
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import torch
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


def write(graph: Graph, file: Path, precision: str) -> None:
    """Writes a graph in float32 or int8."""
    with tempfile.TemporaryDirectory() as folder:
        traced = Path(folder) / "traced.onnx"
        _write_float32(graph, traced)
        if precision == "int8":
            quantized = Path(folder) / "int8.onnx"
            quantize(traced, quantized)
            traced = quantized
        model = onnx.load(traced)
    _shorten_names(model.graph)
    onnx.save(model, file)


def _shorten_names(graph: Any) -> None:
    """Numbers nodes and tensors. The names of the exporter are a fifth of a small model's file."""
    kept = {"", *(one.name for one in (*graph.input, *graph.output))}
    names: dict[str, str] = {}

    def short(name: str) -> str:
        return name if name in kept else names.setdefault(name, f"{len(names):x}")

    for tensor in graph.initializer:
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
                name: {axis: f"{name}_{axis}" for axis in graph.sizes.get(name, range(2))[: x.dim()]}
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
