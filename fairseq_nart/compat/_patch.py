"""The two ways a name inside fairseq is replaced."""

import functools
import types
from collections.abc import Callable
from typing import Any


def wrap(owner: Any, name: str, wrapper: Callable[..., Any]) -> None:
    """Replace ``owner.name`` by a function that calls ``wrapper(original, *args, **kwargs)``.

    A second call with the same wrapper changes nothing, so mends may be applied repeatedly.
    """
    original = getattr(owner, name)
    if getattr(original, "mended_by", None) is wrapper:
        return

    @functools.wraps(original, updated=())  # a class may be wrapped; its names stay its own
    def mended(*args: Any, **kwargs: Any) -> Any:
        return wrapper(original, *args, **kwargs)

    mended.mended_by = wrapper  # type: ignore[attr-defined]
    setattr(owner, name, mended)


class ModuleView(types.ModuleType):
    """A module as one importer sees it: everything of ``module``, with some names replaced.

    It gives one file of fairseq a changed ``np`` or ``torch`` and leaves the real module, which
    all other code shares, untouched.
    """

    def __init__(self, module: types.ModuleType, **replaced: Any) -> None:
        super().__init__(module.__name__, module.__doc__)
        self._viewed = module
        self.__dict__.update(replaced)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._viewed, name)


def view_module(owner: Any, name: str, **replaced: Any) -> None:
    """Let ``owner`` see the module it calls ``name`` with some names replaced; idempotent."""
    seen = getattr(owner, name, None)
    if isinstance(seen, types.ModuleType) and not isinstance(seen, ModuleView):
        setattr(owner, name, ModuleView(seen, **replaced))
