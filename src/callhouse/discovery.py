"""Finds wire APIs and sources by convention: each is a module or folder that exposes a ``plugin``."""

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
        plugin = import_module(f"{package.__name__}.{name}").plugin
        if not isinstance(plugin, kind):
            raise TypeError(f"{package.__name__}.{name}.plugin is no {kind.__name__}")
        plugins.append(plugin)
    return plugins
