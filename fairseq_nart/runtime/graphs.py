"""Runs the ONNX graphs of an exported folder."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fairseq_nart.errors import UserError
from fairseq_nart.runtime.states import Arrays


class Graph:
    """One graph in a session of its own."""

    def __init__(self, file: Path, threads: int) -> None:
        """UserError if ONNX Runtime is not installed or cannot load `file`."""
        try:
            import onnxruntime
        except ModuleNotFoundError as error:
            raise UserError("exported models need ONNX Runtime: pip install onnxruntime") from error
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = threads
        # Otherwise idle threads go on spinning, and slow down the graph that runs next.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        try:
            self.session: Any = onnxruntime.InferenceSession(
                str(file), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # classes of a private module
            raise UserError(f"{file} cannot be loaded: {error}") from error
        self.inputs = {one.name for one in self.session.get_inputs()}
        self.outputs = [one.name for one in self.session.get_outputs()]

    def __call__(self, outputs: Sequence[str] | None = None, /, **inputs: Any) -> Arrays:
        """Computes `outputs` (default: all). Inputs that the graph does not use are ignored."""
        names = self.outputs if outputs is None else list(outputs)
        used = {name: np.asarray(x, order="C") for name, x in inputs.items() if name in self.inputs}
        return dict(zip(names, self.session.run(names, used), strict=True))
