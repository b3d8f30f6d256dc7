"""What a wire API is: a folder here with a ``plugin``, and nothing else anywhere."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from litestar import Request, Response
from litestar.types import ControllerRouterHandler


@dataclass(frozen=True)
class Wire:
    """One vendor's API.

    *path* begins every route of it. *render_error* puts any exception into the vendor's words, whatever it is;
    *title* and *description* head its part of the reference.
    """

    name: str
    title: str
    description: str
    path: str
    handlers: Sequence[ControllerRouterHandler]
    render_error: Callable[[Request[Any, Any, Any], Exception], Response[Any]]
