"""Two ways to replace a name inside fairseq."""

import functools
import types
from collections.abc import Callable
from typing import Any


def wrap(owner: Any, name: str, wrapper: Callable[..., Any]) -> None:
    """Replace ``owner.name`` by a function that calls ``wrapper(original, *args, **kwargs)``.

    A second call with the same wrapper changes nothing, so fixes may be applied repeatedly.
    """
    original = getattr(owner, name)
    if getattr(original, "patched_by", None) is wrapper:
        return

    @functools.wraps(original, updated=())  # `original` may be a class: do not copy its attributes
    def patched(*args: Any, **kwargs: Any) -> Any:
        return wrapper(original, *args, **kwargs)

    patched.patched_by = wrapper  # type: ignore[attr-defined]
    setattr(owner, name, patched)


class ModuleView(types.ModuleType):
    """A view of ``module`` with some names replaced.

    It gives one file of fairseq a modified ``np`` or ``torch`` and leaves the real module, which
    all other code shares, unchanged.
    """

    def __init__(self, module: types.ModuleType, **replaced: Any) -> None:
        super().__init__(module.__name__, module.__doc__)
        self._viewed = module
        self.__dict__.update(replaced)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._viewed, name)


def view_module(owner: Any, name: str, **replaced: Any) -> None:
    """Replace the module ``owner.name`` by a view with some names replaced; idempotent."""
    module = getattr(owner, name, None)
    if isinstance(module, types.ModuleType) and not isinstance(module, ModuleView):
        setattr(owner, name, ModuleView(module, **replaced))
