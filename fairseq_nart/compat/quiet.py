"""Silences warnings that fairseq causes on every run and that its user cannot avoid.

Each filter names the message and the module that reports it; all other warnings still show.
"""

import contextlib
import logging
import warnings
from collections.abc import Iterator

# (beginning of the message as a regular expression, category, module it is reported from)
_NOISE: tuple[tuple[str, type[Warning], str], ...] = (
    # fairseq.dataclass.utils calls hydra the way of hydra 1.0.
    (r"hydra\.experimental\.\w+\(\) is no longer experimental", UserWarning, r"hydra\."),
    (r"\s*The version_base parameter is not specified", UserWarning, r"hydra\."),
    (r"In 'config': Usage of deprecated keyword", UserWarning, r"hydra\."),
    # Reported eleven calls up the stack, so from any module.
    (r"\s*'config' is validated against ConfigStore schema", UserWarning, r""),
    (r"\s*The strict flag in the compose API is deprecated", UserWarning, r"hydra\."),
    # fairseq uses the older spelling of torch.amp.
    (r"`torch\.cuda\.amp\.\w+\(args\.\.\.\)` is deprecated", FutureWarning, r"fairseq\."),
    # fairseq passes torch's DDP an argument that is being renamed.
    (r"`broadcast_buffers` is deprecated", FutureWarning, r"fairseq"),
    # fairseq asks for pinned memory on every machine.
    (
        r"'pin_memory' argument is set as true but no accelerator",
        UserWarning,
        r"torch\.utils\.data",
    ),
    # fairseq's ConvS2S uses the older weight normalisation, hooks and state_dict.
    (r"`torch\.nn\.utils\.weight_norm` is deprecated", FutureWarning, r"torch\.nn\.utils\."),
    (r"Using non-full backward hooks on a Module", FutureWarning, r"torch\.nn\.modules\."),
    (r"Positional args are being deprecated", FutureWarning, r"fairseq\.modules\.linearized_"),
    # fairseq's attention passes a boolean and an additive mask together.
    (
        r"Support for mismatched key_padding_mask and attn_mask",
        UserWarning,
        r"torch\.nn\.functional",
    ),
)

FIRST = _NOISE[0][0]
"""The first filter. Python's list of filters holds it if they were added."""


def silence_deprecations() -> None:
    """Add the filters; idempotent."""
    for message, category, module in _NOISE:
        warnings.filterwarnings("ignore", message, category, module)
    # One of fairseq's model files sets the root logger to DEBUG when imported. generate and
    # interactive would then log hydra's internals, and figures matplotlib's search for fonts.
    # Levels that are already set stay.
    for name in ("hydra.core.utils", "matplotlib", "PIL"):
        logger = logging.getLogger(name)
        if logger.level == logging.NOTSET:
            logger.setLevel(logging.INFO)


@contextlib.contextmanager
def keeping_root_logger() -> Iterator[None]:
    """Restore the root logger's level and handlers afterwards; for importing fairseq.

    One of its model files sets the root logger to DEBUG and adds a handler, which would affect
    the logging of the whole program.
    """
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    try:
        yield
    finally:
        root.setLevel(level)
        root.handlers[:] = handlers
