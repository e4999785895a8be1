"""Matrix products in ONNX Runtime: how fast the machine is, and how many a translation takes."""

import contextlib
import json
import math
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fairseq_nart.runtime.graphs import Graph, load

FILE = "product.{}.onnx"
"""The graph of a product in a precision, beside the exported models."""

NAME = "product"

INNER, OUTER, ROWS = 256, 1024, (16, 256)
"""The weights of the product that is timed are those of a small feed-forward layer, which stay in
the cache; it multiplies the tokens of one sentence and of many."""

TRIES, SECONDS = 5, 0.05
"""Number and length of the tries. The best one counts: other programs can only slow one down."""


def write(file: Path, precision: str) -> None:
    """Writes a graph of one product, as exported models have them. Needs onnx."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    from fairseq_nart.export.onnx import OPSET, join, quantize

    weight = np.random.default_rng(1).standard_normal((INNER, OUTER), np.float32)
    x, y = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", size])
        for name, size in (("x", INNER), ("y", OUTER))
    )
    product = helper.make_node("MatMul", ["x", "weight"], ["y"])
    graph = helper.make_graph(
        [product], NAME, [x], [y], [numpy_helper.from_array(weight, "weight")]
    )
    opsets = [helper.make_opsetid("", OPSET)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), file)
    if precision == "int8":
        quantize(file, file)
    onnx.save(join({NAME: onnx.load(file)}), file)


def rate(file: Path, threads: int) -> float:
    """Operations per second of the product in `file`, at best; a multiply-add counts as two."""
    graph, rates = load(file, threads)[NAME], []
    for rows in ROWS:
        x = np.ones((rows, INNER), np.float32)
        graph(x=x)
        for _ in range(TRIES):
            count, start = 0, time.perf_counter()
            while (seconds := time.perf_counter() - start) < SECONDS or not count:
                graph(x=x)
                count += 1
            rates.append(2 * x.size * OUTER * count / seconds)
    return max(rates)


def operations(file: Path, graphs: Collection[Graph], work: Callable[[], object]) -> int:
    """Operations of the matrix products that the `graphs` of `file` compute in `work`."""
    with tempfile.TemporaryDirectory() as folder, _profiled(file, graphs, Path(folder)) as profiled:
        work()
        events = json.loads(Path(profiled.end_profiling()).read_text("utf-8"))
    nodes = [event["args"] for event in events if event.get("cat") == "Node"]
    return sum(_count(node) for node in nodes if "input_type_shape" in node)


@contextlib.contextmanager
def _profiled(file: Path, graphs: Collection[Graph], folder: Path) -> Iterator[Any]:
    """A session that records all nodes with their shapes, instead of the graphs' own."""
    import onnxruntime

    (own,) = {graph.session for graph in graphs}
    options = onnxruntime.SessionOptions()
    options.enable_profiling, options.log_severity_level = True, 3
    options.intra_op_num_threads = 1
    options.profile_file_prefix = str(folder / "nodes")
    profiled = onnxruntime.InferenceSession(str(file), options)
    try:
        for graph in graphs:
            graph.session = profiled
        yield profiled
    finally:
        for graph in graphs:
            graph.session = own


def _count(node: dict[str, Any]) -> int:
    """The operations of a node, from its shapes; 0 unless it multiplies matrices."""
    inputs, outputs = (
        [next(iter(one.values())) for one in node[f"{side}_type_shape"]]
        for side in ("input", "output")
    )
    if node["op_name"] == "MultiHeadAttention":
        queries, keys = inputs[:2]  # (B,T,D), (B,S,D)
        return int(4 * math.prod(queries) * keys[1])
    if "MatMul" in node["op_name"] or node["op_name"] == "Gemm":
        left, result = inputs[0], outputs[0]
        transposed = left[-2:-1] != result[-2:-1]
        return int(2 * math.prod(result) * left[-2 if transposed else -1])
    return 0
