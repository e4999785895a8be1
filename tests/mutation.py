"""mutmut, which also mutates the functions under torch's decorators.

It skips most decorated functions, because a decorator may have side effects. These have none.
"""

from __future__ import annotations

import logging

import libcst
from mutmut.__main__ import cli
from mutmut.mutation.file_mutation import MutationVisitor

HARMLESS = {"staticmethod", "once_differentiable", "torch.no_grad()"}

skip = MutationVisitor._skip_node_and_children


def skip_all_but_harmless(self: MutationVisitor, node: libcst.CSTNode) -> bool:
    if isinstance(node, libcst.FunctionDef):
        code = libcst.Module([]).code_for_node
        if HARMLESS.issuperset(code(decorator.decorator) for decorator in node.decorators):
            return False
    return skip(self, node)


MutationVisitor._skip_node_and_children = skip_all_but_harmless

# mutmut logs to fairseq's handler, whose stream pytest has closed.
logging.raiseExceptions = False

if __name__ == "__main__":
    cli()
