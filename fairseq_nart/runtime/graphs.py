"""Runs the ONNX graphs of an exported folder."""

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from fairseq_nart.errors import UserError
from fairseq_nart.runtime import outside_data
from fairseq_nart.runtime.states import Arrays


def load(file: Path, threads: int) -> dict[str, "Graph"]:
    """The graphs of a file by name, in one session.

    UserError if ONNX Runtime is not installed or cannot load the file, and if the file names other
    files.
    """
    try:
        import onnxruntime
    except ModuleNotFoundError as error:
        raise UserError("exported models need ONNX Runtime: pip install onnxruntime") from error
    if other := outside_data.first_in(file):
        raise UserError(
            f"{file} is refused: it names the file {other} as a part of it, and an exported model "
            "holds all its weights itself. Export the model again, or copy it from a source you "
            "trust"
        )
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    # Otherwise idle threads go on spinning, and slow down whatever runs next.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    try:
        session = onnxruntime.InferenceSession(
            str(file),
            options,
            providers=["CPUExecutionProvider"],
            # Its operator takes three times as long as the addition and the norm apart.
            disabled_optimizers=["SkipLayerNormFusion"],
        )
    except Exception as error:  # classes of a private module
        raise UserError(f"{file} cannot be loaded: {error}") from error
    inputs = (x.name for x in session.get_overridable_initializers())
    return {name: Graph(session, name) for name in inputs if "." not in name}


class Graph:
    """One of the graphs in a file, which share a session: see `fairseq_nart.export.onnx.join`."""

    def __init__(self, session: Any, name: str) -> None:
        self.session = session
        self.name = name
        values = (*session.get_inputs(), *session.get_overridable_initializers())
        self.inputs = self._own(values)
        self.outputs = self._own(session.get_outputs())

    def _own(self, values: Iterable[Any]) -> dict[str, str]:
        """The full names of this graph's `values`, by their own names."""
        prefix = f"{self.name}."
        names = (x.name for x in values if x.name.startswith(prefix))
        return {name.removeprefix(prefix): name for name in names}

    def __call__(self, outputs: Collection[str] | None = None, /, **inputs: Any) -> Arrays:
        """Computes `outputs` (default: all). Inputs that the graph does not use are ignored."""
        own, names = self.inputs, self.outputs if outputs is None else outputs
        used = {own[name]: np.asarray(x, order="C") for name, x in inputs.items() if name in own}
        values = self.run([self.outputs[name] for name in names], {**used, self.name: TRUE})
        return dict(zip(names, values, strict=True))

    def run(self, outputs: list[str], inputs: dict[str, Any]) -> list[Any]:
        """Runs the session. A benchmark measures this method's time."""
        values: list[Any] = self.session.run(outputs, inputs)
        return values


TRUE = np.array(True)
