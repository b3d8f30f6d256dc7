"""What the OpenAPI document says of every operation, so that no route repeats it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, cast

import msgspec
from litestar.enums import HttpMethod
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import (
    Example,
    OpenAPI,
    OpenAPIHeader,
    OpenAPIMediaType,
    OpenAPIResponse,
    Operation,
    Parameter,
    Schema,
)
from litestar.openapi.spec.enums import OpenAPIType
from litestar.params import BodyKwarg, PathParameter, QueryParameter

from callhouse.render import DEFAULT_LIMIT, JSON, MAX_LIMIT, MAX_OFFSET, XML, XML_DECLARATION, xml_element

# The parameters of a list by start. How early a window may begin differs between the APIs, and with it the example.
START = "Start of the window in epoch seconds: calls that started at it or later."
# Together the examples are a window that shows calls of today to who tries the page out as it stands.
SINCE: dict[str, Any] = {"type": "string", "pattern": "^[0-9]{1,11}$", "examples": ["1700000000"]}
UNTIL: dict[str, Any] = {**SINCE, "examples": ["2000000000"]}

End = Annotated[
    str,
    PathParameter(
        description="End of the window in epoch seconds: calls that started before it. Must be after start.",
        schema_extra=UNTIL,
    ),
]
Number = Annotated[
    str | None,
    QueryParameter(
        description="Only calls to this number. Spelling does not matter: `+1 (617) 712-3001` and `6177123001` are "
        "the same."
    ),
]
Limit = Annotated[
    str | None,
    QueryParameter(
        description="Most members of the list to return.",
        schema_extra={"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT},
    ),
]
Offset = Annotated[
    str | None,
    QueryParameter(
        description="Members of the list to skip, in its order.",
        schema_extra={"type": "integer", "minimum": 0, "maximum": MAX_OFFSET, "default": 0},
    ),
]
KNOWN = frozenset({"number", "limit", "offset"})
"""The query parameters of such a list."""

_SCHEMA = "#/components/schemas/"

Failures = Mapping[int, tuple[str, msgspec.Struct]]
"""The failures of an operation by status: when it is answered, and an example of the body, which tells its type."""


def _header(description: str, kind: OpenAPIType, *, required: bool) -> OpenAPIHeader:
    return OpenAPIHeader(
        name="", param_in="header", description=description, schema=Schema(type=kind), required=required
    )


_RETRY_AFTER = {"Retry-After": _header("Seconds to wait before trying again.", OpenAPIType.INTEGER, required=True)}
_HEADERS = {
    "401": {"WWW-Authenticate": _header("How to authenticate: HTTP Basic.", OpenAPIType.STRING, required=True)},
    "405": {"Allow": _header("The methods that this path answers.", OpenAPIType.STRING, required=True)},
    "429": _RETRY_AFTER,
    "503": _RETRY_AFTER,
}
_IGNORED = {
    "X-Ignored-Parameters": _header(
        "The query parameters that were sent and are not known, if any.", OpenAPIType.STRING, required=False
    )
}


@dataclass
class PlainOperation(Operation):
    """An operation as it is read best: one example of each thing, and no null where nothing can be null."""

    def __post_init__(self) -> None:
        for status, response in self.documented():
            for media_type in (response.content or {}).values():
                if not media_type.examples:
                    # Not from answer(): Litestar adds its own 400 to whatever has parameters.
                    del self.responses[status]  # type: ignore[union-attr]
                    break
                [example] = media_type.examples.values()
                media_type.example, media_type.examples = cast("Example", example).value, None
        for parameter in self.parameters or []:
            if isinstance(parameter, Parameter) and isinstance(parameter.schema, Schema):
                _plain(parameter.schema)
                if parameter.schema.examples:
                    # Swagger UI fills its form with this one, and not with the schema's.
                    parameter.example, parameter.schema.examples = parameter.schema.examples[0], None

    def documented(self) -> list[tuple[str, OpenAPIResponse]]:
        """The answers by status."""
        return [(s, r) for s, r in (self.responses or {}).items() if isinstance(r, OpenAPIResponse)]


@dataclass
class JsonOperation(PlainOperation):
    """An operation whose failures carry the headers that go with their status."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for status, response in self.documented():
            response.headers = {**(response.headers or {}), **_HEADERS.get(status, {})}


@dataclass
class JsonReadOperation(JsonOperation):
    """A reading operation of a wire API, which names the query parameters that it ignored."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for status, response in self.documented():
            if status == "200":
                response.headers = {**(response.headers or {}), **_IGNORED}


@dataclass
class JsonOrXmlOperation(JsonReadOperation):
    """A reading operation that answers in XML too when the client prefers that, in the same shape."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for _, response in self.documented():
            if response.content and JSON in response.content:
                json = response.content[JSON]
                response.content[XML] = OpenAPIMediaType(schema=json.schema, example=self.as_xml(json.example))

    def as_xml(self, body: Any) -> str:
        """The example *body* as the API writes it in XML."""
        return XML_DECLARATION.decode() + xml_element("result", body)


def _plain(schema: Schema) -> None:
    """Take null out of the *schema* of a parameter: it is absent or it is text."""
    if schema.one_of:
        [only] = [s for s in schema.one_of if isinstance(s, Schema) and s.type != OpenAPIType.NULL]
        schema.type, schema.one_of = schema.type or only.type, None


def answers(kind: Any, description: str, example: Any, failures: Failures) -> dict[int, ResponseSpec]:
    """The answers of an operation: what its success is and looks like, and its failures."""
    documented = {200: answer(kind, description, example)}
    for status, (when, body) in failures.items():
        documented[status] = answer(_named(type(body)), when, msgspec.to_builtins(body))
    return documented


def answer(kind: Any, description: str, example: Any, media_type: str = JSON) -> ResponseSpec:
    """One answer: its body's type, when it is given, and an example."""
    return ResponseSpec(
        kind, description=description, media_type=media_type, generate_examples=False, examples=[Example(value=example)]
    )


def _named(body: type) -> Any:
    # Each API calls its bodies alike; without this the document would name them by their modules.
    *_, owner, _ = body.__module__.split(".")
    name = f"{owner.title()}{body.__name__.removesuffix('Body')}"
    return Annotated[body, BodyKwarg(schema_component_key=name)]


def operation(
    operation_id: str, tag: str, summary: str, description: str, responses: dict[int, ResponseSpec], kind: type
) -> dict[str, Any]:
    """The keywords of a route handler that document it."""
    return {
        # A handler that answers HEAD too has an operation for each; that one is left out again by complete().
        "operation_id": lambda _, method, __: operation_id if method != HttpMethod.HEAD else f"{operation_id}_head",
        "tags": [tag],
        "summary": summary,
        "description": description,
        "responses": responses,
        "operation_class": kind,
    }


def complete(document: OpenAPI, schemas: Mapping[str, Any], schemes: Mapping[str, str]) -> None:
    """Put *schemas* beside those of the answers, title each by its name, and leave out HEAD, which only repeats GET.

    An operation is secured by the scheme that *schemes* names for its tag, and is open to all when there is none.
    """
    for name, schema in (document.components.schemas or {}).items():
        schema.title = name
    document.components.schemas = dict(sorted({**(document.components.schemas or {}), **schemas}.items()))
    for path in (document.paths or {}).values():
        path.head = None
        for documented in (path.get, path.post):
            if documented is not None:
                documented.security = [{schemes[tag]: []} for tag in documented.tags or () if tag in schemes]


def of_tag(document: Mapping[str, Any], tag: str, how_to: str) -> dict[str, Any]:
    """What *document* says of the operations under *tag*, as a document of its own.

    Its introduction ends in *how_to* authorize where that is needed.
    """
    paths: dict[str, dict[str, Any]] = {}
    for path, item in document["paths"].items():
        if documented := {method: operation for method, operation in item.items() if tag in operation["tags"]}:
            paths[path] = documented
    components = document["components"]
    used = _referred(paths, components["schemas"])
    secured = {
        name
        for item in paths.values()
        for documented in item.values()
        for each in documented["security"]
        for name in each
    }
    [description] = [each["description"] for each in document["tags"] if each["name"] == tag]
    return {
        **document,
        "info": {
            **document["info"],
            "title": f"{document['info']['title']}: {tag}",
            "description": f"{description}\n\n{how_to}" if secured else description,
        },
        "tags": [{"name": tag}],
        "paths": paths,
        "components": {
            "schemas": {name: schema for name, schema in components["schemas"].items() if name in used},
            "securitySchemes": {name: s for name, s in components["securitySchemes"].items() if name in secured},
        },
    }


def _referred(part: Any, schemas: Mapping[str, Any]) -> set[str]:
    """The names of the *schemas* that *part* refers to, and those that these refer to."""
    found: set[str] = set()
    waiting = [part]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict):
            name = str(each.get("$ref", "")).removeprefix(_SCHEMA)
            if name in schemas and name not in found:
                found.add(name)
                waiting.append(schemas[name])
            waiting.extend(each.values())
        elif isinstance(each, list):
            waiting.extend(each)
    return found
