"""Finds wire APIs and sources by convention: each is a module or folder that exposes a ``plugin``.

That of a folder may stand in a module of that name, whose imports the others of the folder are then spared.
"""

from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType
from typing import TypeVar

T = TypeVar("T")


def discover(package: ModuleType, kind: type[T]) -> list[T]:
    """The *kind* that each module of *package* exposes under the name ``plugin``, sorted by module.

    Raises TypeError when a module exposes something else, so that a broken slice stops the start.
    """
    plugins = []
    for name in sorted(m.name for m in iter_modules(package.__path__)):
        module = import_module(f"{package.__name__}.{name}")
        found = getattr(module, "plugin", None) or import_module(f"{module.__name__}.plugin")
        plugin = found.plugin if isinstance(found, ModuleType) else found
        if not isinstance(plugin, kind):
            raise TypeError(f"{package.__name__}.{name}.plugin is no {kind.__name__}")
        plugins.append(plugin)
    return plugins
