"""What an operator may set: defaults, then a TOML file, then the environment, then flags; the later one wins."""

import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec

from callhouse import sources
from callhouse.console.options import ConsoleSettings
from callhouse.discovery import discover
from callhouse.errors import SettingsError
from callhouse.ingest.limits import IngestLimits
from callhouse.model.account import Retention
from callhouse.model.instant import SECOND, format_duration, parse_duration
from callhouse.observability import LogFormat, LogLevel
from callhouse.sources import Source
from callhouse.wire.plivo.limits import PlivoLimits

ENVIRONMENT_PREFIX = "CALLHOUSE_"
_SECRET = {"store.url", "store.replicas"}
_SCHEMES = ("postgresql://", "postgres://")
_PASSWORDS = re.compile(r"(?<=//)([^/@:\s]*):(?:(?!\spostgres(?:ql)?://).)*(?=@)|(?<=password=)[^&\s]*", re.DOTALL)
"""Up to the last ``@`` of a URL, as one that was not percent-encoded may hold anything."""
NOT_SETTINGS = ("CALLHOUSE_CONFIG", "CALLHOUSE_TEST_")
"""Beginnings of variables of ours that are no settings."""


class ServerSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    host: str = "127.0.0.1"
    port: int = 8080
    max_in_flight: int = 1_000
    trusted_proxies: str = ""
    tls_cert: str = ""
    tls_key: str = ""


class StoreSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    data: str = "callhouse-data"
    url: str = ""
    distributed: bool = False
    replicas: str = ""
    replica_lag: str = "1s"
    read_limit: str = "30s"

    def location(self) -> Path | str:
        """What open_store takes. Raises SettingsError."""
        if self.url and not self.url.startswith(_SCHEMES):
            # What else libpq would take may hold a password, too.
            raise SettingsError("store.url is no URL of PostgreSQL: postgresql://user@host/name expected.")
        return self.url or Path(self.data)

    def shown(self) -> str:
        """The same for a person to read, without a password."""
        return redacted(self.url) if self.url else self.data

    def replica_urls(self) -> list[str]:
        """The replicas one by one. Raises SettingsError."""
        urls = self.replicas.split()
        if urls and not self.url:
            raise SettingsError("store.replicas is set, but store.url is not: only a database has replicas.")
        if not all(url.startswith(_SCHEMES) for url in urls):
            raise SettingsError("store.replicas: postgresql://user@host/name expected, several with spaces.")
        return urls

    def replica_seconds(self) -> float:
        """How far behind a replica may be. Raises SettingsError."""
        try:
            lag = parse_duration(self.replica_lag)
        except ValueError as error:
            raise SettingsError(f"store.replica_lag: {error}.") from None
        if not lag:
            raise SettingsError(f"store.replica_lag is {self.replica_lag!r}: a duration above zero expected.")
        return lag / SECOND

    def read_seconds(self) -> float | None:
        """The limit of a read; None when there is none. Raises SettingsError."""
        try:
            limit = parse_duration(self.read_limit)
        except ValueError as error:
            raise SettingsError(f"store.read_limit: {error}.") from None
        if limit == 0:
            raise SettingsError("store.read_limit is 0: a longer time expected, or forever.")
        return None if limit is None else limit / SECOND


class RetentionSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    details: str = "5d"
    sessions: str = "1y"
    plivo: str = "90d"
    quarantine: str = "30d"

    def parsed(self) -> Retention:
        """The same in milliseconds. Raises SettingsError."""
        durations = {}
        for name in self.__struct_fields__:
            try:
                durations[name] = parse_duration(getattr(self, name))
            except ValueError as error:
                raise SettingsError(f"retention.{name}: {error}.") from None
        return Retention(**durations)


class MirrorSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    background: bool = True
    every: str = "1m"

    def every_ms(self) -> int:
        """How often is asked for what is new, in milliseconds. Raises SettingsError."""
        try:
            every = parse_duration(self.every)
        except ValueError as error:
            raise SettingsError(f"mirror.every: {error}.") from None
        if not every:
            raise SettingsError(f"mirror.every is {self.every!r}: a duration above zero expected.")
        return every


class LogSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    format: LogFormat = "auto"
    level: LogLevel = "info"


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    server: ServerSettings = ServerSettings()
    store: StoreSettings = StoreSettings()
    retention: RetentionSettings = RetentionSettings()
    ingest: IngestLimits = IngestLimits()
    plivo: PlivoLimits = PlivoLimits()
    mirror: MirrorSettings = MirrorSettings()
    console: ConsoleSettings = ConsoleSettings()
    log: LogSettings = LogSettings()
    sources: Mapping[str, msgspec.Struct] = {}
    """The options of each source that has any, by its name."""


_SOURCES = {
    source.name: (source, type(source.options)) for source in discover(sources, Source) if source.options is not None
}

HELP = {
    "server.host": "Address to listen on.",
    "server.port": "Port to listen on; 0 takes a free one.",
    "server.max_in_flight": "Requests answered at once; one more gets 429.",
    "server.trusted_proxies": "Addresses or networks of proxies, with commas; their `X-Forwarded-For` names a client.",
    "server.tls_cert": "PEM file of the certificate and its chain; with `server.tls_key`, HTTPS alone.",
    "server.tls_key": "PEM file of its private key, which is not encrypted.",
    "store.data": "Directory of the store; `serve` and `accounts create` make it.",
    "store.url": "PostgreSQL database of the store, `postgresql://user@host/name`; the directory is not used then.",
    "store.distributed": "Whether the database is one of Citus, over whose servers the accounts are spread.",
    "store.replicas": "Replicas of the database that may be read from: URLs, with spaces.",
    "store.replica_lag": "How far behind the database what is read from a replica may be.",
    "store.read_limit": "How long reading for one answer may take before it is stopped.",
    "retention.details": "How long a call's log is kept, from the call's end.",
    "retention.sessions": "How long a call is kept for the DEV view, from its start.",
    "retention.plivo": "How long a call is kept for the Plivo view, from its start.",
    "retention.quarantine": "How long a refused record is kept, from its arrival.",
    "ingest.max_body": "Bytes of a request's body, as sent and after decompression.",
    "ingest.max_records": "Records of a request's body.",
    "ingest.max_record": "Bytes of one record.",
    "ingest.max_depth": "How deep the arrays and objects of a record may nest.",
    "ingest.max_events": "Events of one call, all that were sent for it together.",
    "ingest.max_log": "Bytes of one call's log before compression, all its events together.",
    "plivo.max_limit": "Calls on one page of the Plivo API at most; its documentation says 20.",
    "mirror.background": "Whether the server follows the mirrors; if not, `callhouse mirror run` does.",
    "mirror.every": "How often a mirror asks for what is new.",
    "console.admin_token_file": "File of the token with which an operator signs in to the console, for all accounts.",
    "log.format": "`json`, `console`, or `auto`: console on a terminal.",
    "log.level": "`debug`, `info`, `warning` or `error`; `info` logs each request.",
    **{
        f"sources.{name}.{field.name}": field.type.__metadata__[0].description
        for name, (_, options) in _SOURCES.items()
        for field in msgspec.structs.fields(options)
    },
}
"""What each setting is; docs/settings.md is made of it."""


class InForce(msgspec.Struct, frozen=True):
    """A setting's value as text, and where it came from."""

    key: str
    value: str
    origin: str


def load(file: Path | None, environment: Mapping[str, str], flags: Mapping[str, str]) -> tuple[Settings, list[InForce]]:
    """The settings in force, and for each where it came from. *flags* are by dotted key, as ``retention.details``.

    Raises SettingsError for a key that does not exist and for a value that is not of its kind.
    """
    chosen: dict[str, tuple[Any, str]] = {key: (value, "default") for key, value, _ in _fields()}
    for key, value in _file_values(file):
        _choose(chosen, key, value, str(file))
    variables = {variable_of(key): key for key in chosen}
    for variable, text in sorted(environment.items()):
        if variable.startswith(ENVIRONMENT_PREFIX) and not variable.startswith(NOT_SETTINGS):
            _choose(chosen, variables.get(variable, variable), text, variable)
    if "store.data" in flags and chosen["store.url"][0]:
        # A directory that is named by hand is meant, whatever database is set elsewhere.
        chosen["store.url"] = ("", "command line")
    for key, text in flags.items():
        _choose(chosen, key, text, "command line")
    values = {key: _checked(key, value, origin) for key, (value, origin) in chosen.items()}
    tree: dict[str, dict[str, Any]] = {}
    for key, value in values.items():
        section, _, name = key.rpartition(".")
        tree.setdefault(section, {})[name] = value
    options = {
        name: _options(source, msgspec.convert(tree.pop(f"sources.{name}"), kind))
        for name, (source, kind) in _SOURCES.items()
    }
    settings = msgspec.structs.replace(msgspec.convert(tree, Settings), sources=options)
    settings.retention.parsed()
    settings.store.location()
    settings.store.read_seconds()
    settings.store.replica_urls()
    settings.store.replica_seconds()
    settings.mirror.every_ms()
    return settings, [
        InForce(key, redacted(str(values[key])) if key in _SECRET else str(values[key]), origin)
        for key, (_, origin) in chosen.items()
    ]


def _options(source: Source, options: msgspec.Struct) -> msgspec.Struct:
    try:
        source.readers_with(options)
    except ValueError as error:
        raise SettingsError(f"sources.{source.name}.{error}.") from None
    return options


def redacted(text: str) -> str:
    """*text* with stars in the place of the passwords that URLs in it hold."""
    return _PASSWORDS.sub(lambda found: f"{found[1]}:***" if found[1] is not None else "***", text)


def variable_of(key: str) -> str:
    """The environment variable of a setting: ``CALLHOUSE_RETENTION_DETAILS`` for ``retention.details``."""
    return ENVIRONMENT_PREFIX + key.replace(".", "_").upper()


def document() -> str:
    """docs/settings.md."""
    rows = [f"| `{key}` | `{variable_of(key)}` | `{value}` | {HELP[key]} |" for key, value, _ in _fields()]
    return "\n".join(
        [
            "# Settings",
            "",
            "Each setting has a default, which a TOML file (`--config FILE`, or the variable `CALLHOUSE_CONFIG`)",
            "overrides, which the environment overrides, which a flag overrides: `--set KEY=VALUE`, or `--host`,",
            "`--port`, `--data` and `--store` (the URL) for those that are set most. A key that does not exist is an",
            "error. `callhouse config` prints what is in force and where each value came from.",
            "",
            "| key | environment variable | default | meaning |",
            "| --- | --- | --- | --- |",
            *rows,
            "",
            "Durations are a number and `ms`, `s`, `m`, `h`, `d`, `w` or `y` (365 days, `100y` at most), or `forever`.",
            "In TOML:",
            "",
            "```toml",
            "[retention]",
            f'details = "{format_duration(parse_duration("30d"))}"',
            "```",
            "",
            "An account may have a retention of its own, longer or shorter: `callhouse accounts set ID --retention",
            "details=forever`.",
            "",
        ]
    )


def _fields() -> Iterator[tuple[str, Any, Any]]:
    sections = {section.name: section.type for section in msgspec.structs.fields(Settings) if section.name != "sources"}
    sections |= {f"sources.{name}": kind for name, (_, kind) in _SOURCES.items()}
    for section, kind in sections.items():
        for field in msgspec.structs.fields(kind):
            yield f"{section}.{field.name}", field.default, field.type


def _file_values(file: Path | None) -> Iterator[tuple[str, Any]]:
    if file is None:
        return
    try:
        sections = tomllib.loads(file.read_text())
    except OSError as error:
        raise SettingsError(f"{file} cannot be read: {error.strerror}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file} is no TOML: {error}.") from None
    for section, values in sections.items():
        if not isinstance(values, dict):
            raise SettingsError(f"{file}: {section} stands outside any section; known keys are {_known()}.")
        for name, value in values.items():
            if section == "sources" and isinstance(value, dict):
                yield from ((f"sources.{name}.{key}", option) for key, option in value.items())
            else:
                yield f"{section}.{name}", value


def _choose(chosen: dict[str, tuple[Any, str]], key: str, value: Any, origin: str) -> None:
    if key not in chosen:
        raise SettingsError(f"{origin}: there is no setting {redacted(key)}; known keys are {_known()}.")
    chosen[key] = (value, origin)


def _checked(key: str, value: Any, origin: str) -> Any:
    [kind] = [kind for name, _, kind in _fields() if name == key]
    try:
        converted = msgspec.convert(value, kind, strict=False)
    except msgspec.ValidationError:
        expected = (
            "one of " + ", ".join(get_args(kind))
            if get_origin(kind) is Literal
            else f"{_plain(kind).__name__} expected"
        )
        raise SettingsError(f"{key} is {redacted(repr(value))} ({origin}): {expected}.") from None
    if (
        isinstance(converted, int)
        and not isinstance(converted, bool)
        and (converted < 0 or (converted == 0 and key != "server.port"))
    ):
        raise SettingsError(f"{key} is {value!r} ({origin}): a positive number expected.")
    if key == "server.port" and converted > 65_535:
        raise SettingsError(f"{key} is {value!r} ({origin}): a port number up to 65535 expected.")
    return converted


def _plain(kind: Any) -> Any:
    """A type without the Meta that describes it."""
    return get_args(kind)[0] if get_origin(kind) is Annotated else kind


def _known() -> str:
    return ", ".join(key for key, _, _ in _fields())
