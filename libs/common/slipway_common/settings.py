"""Settings: from the environment (`SLIPWAY_…`), a TOML file, and the command line, in falling order of weight:
command line, environment, file, default.

Every setting has one description with its unit and, where it has one, its danger; `slipway settings` prints them and
docs/settings.md is made from them. All mistakes are reported at once, at start, by name.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    SecretStr,
    ValidationError,
    model_validator,
)

from slipway_common.errors import Misconfigured

PREFIX = "SLIPWAY_"
# Variables with our prefix that are not settings: where the file is, the client's login, switches of the tests and tools.
_NOT_SETTINGS = re.compile(r"SLIPWAY_(CONFIG$|URL$|TOKEN$|TEST_|PARTS_|BENCH_|KILLS$|FAIL_|WORKER_)")


def setting(
    default: Any, description: str, *, unit: str | None = None, danger: str | None = None, **limits: Any
) -> Any:
    """One setting, with everything its reader needs to know."""
    extra: dict[str, JsonValue] = {
        key: value for key, value in (("unit", unit), ("danger", danger)) if value is not None
    }
    return Field(default=default, description=description, json_schema_extra=extra, **limits)


def default_data_folder() -> Path:
    """Where data goes when nothing is said: /var/lib/slipway for root, the user's own data folder for others."""
    if os.geteuid() == 0:
        return Path("/var/lib/slipway")
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "slipway"


def _check_listen(value: str) -> str:
    parse_listen(value)
    return value


def parse_listen(value: str) -> Path | tuple[str, int]:
    """`unix:/path` or `host:port` (IPv6 in brackets; an empty host means every address)."""
    if value.startswith("unix:"):
        return Path(value.removeprefix("unix:"))
    host, colon, port = value.rpartition(":")
    if not colon or not re.fullmatch("[0-9]{1,5}", port) or int(port) > 65_535:
        raise ValueError("write HOST:PORT, for instance 127.0.0.1:5000, or unix:/path/to/socket")
    return host.strip("[]"), int(port)


def _split(value: object) -> object:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _check_networks(value: list[str]) -> list[str]:
    for network in value:
        ip_network(network, strict=False)
    return value


def _check_url(value: str | None) -> str | None:
    if value is not None and not re.fullmatch(r"https?://[^/?#\s]+", value.rstrip("/")):
        raise ValueError("write a URL without path, for instance https://registry.example.com")
    return value.rstrip("/") if value else None


Listen = Annotated[str, AfterValidator(_check_listen)]
Networks = Annotated[list[str], AfterValidator(_check_networks)]
Url = Annotated[str | None, AfterValidator(_check_url)]


class CommonSettings(BaseModel):
    """What every service needs to know."""

    model_config = ConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True)

    data: Path = setting(
        None,
        "Folder for everything that is kept on this machine: the embedded database, files, keys. Default: /var/lib/slipway "
        "for root, ~/.local/share/slipway for others.",
        danger="Whoever can read it can read every image; whoever loses it loses what is not in PostgreSQL and S3.",
        validate_default=True,
    )
    master_key_file: Path | None = setting(
        None,
        "File with the key that encrypts signing keys and secrets in the database; made at first start where it is missing. "
        "Default: master.key in the data folder.",
        danger="All services and all their copies need the same file. Without it, logins and stored secrets are lost.",
    )
    database_url: SecretStr | None = setting(
        None,
        "PostgreSQL 15 or newer, as postgresql://user:password@host/database. Unset: an embedded PostgreSQL in the data folder.",
        danger="A standby that is not synchronous may lose acknowledged pushes at fail-over.",
    )
    database_pool_size: int = setting(
        16, "Connections to PostgreSQL in each of the two pools of a process.", unit="connections", ge=2, le=500
    )
    bus: Literal["embedded", "kafka"] = setting(
        "embedded", "How events reach the other services: read from the event log in PostgreSQL, or carried by Kafka."
    )
    kafka_bootstrap_servers: str = setting("localhost:9092", "Kafka brokers, as host:port with commas between.")
    kafka_topic: str = setting("slipway.events", "Topic that carries the events; created where it is missing.")
    kafka_partitions: int = setting(12, "Partitions of the topic when Slipway creates it.", unit="partitions", ge=1)
    kafka_replication: int = setting(
        1, "Copies of each partition when Slipway creates the topic.", unit="copies", ge=1,
        danger="With one copy a lost broker delays events until the log has been read again; use 3 in production.",
    )  # fmt: skip
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = setting(
        "PLAINTEXT", "How to speak to Kafka.", danger="PLAINTEXT is for networks that nobody else is on."
    )
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = setting(
        "SCRAM-SHA-512", "How to log in to Kafka when the protocol is SASL."
    )
    kafka_username: str | None = setting(None, "User name at Kafka.")
    kafka_password: SecretStr | None = setting(None, "Password at Kafka.")
    kafka_ca_file: Path | None = setting(None, "Certificate authority that signed the brokers' certificates (PEM).")
    gateway_url: Url = setting(
        None, "Where other services reach the gateway's internal address. Unset: a Unix socket on this machine."
    )
    metadata_url: Url = setting(None, "Where the gateway reaches metadata. Unset: a Unix socket on this machine.")
    internal_listen: Listen | None = setting(
        None,
        "Where this service answers the other services, as HOST:PORT or unix:/path. Unset: a Unix socket in a private folder.",
        danger="Calls are signed, but not encrypted: keep the port inside the cluster's network.",
    )
    outgoing_networks: Networks = setting(
        [],
        "Private networks that requests to addresses which users name (issuers of CI systems' tokens) may reach in spite of the "
        "guard, with commas between, for instance 10.20.0.0/16. In them any port and plain http are allowed.",
        danger="Who may name a URL can reach every machine and port in them; never name 169.254.0.0/16 (cloud metadata).",
    )
    log_format: Literal["auto", "json", "console"] = setting(
        "auto", "json, console (coloured, for reading), or auto: console on a terminal, json elsewhere."
    )
    log_level: Literal["debug", "info", "warning", "error"] = setting("info", "The least severe message to log.")
    shutdown_s: float = setting(
        25.0, "How long requests under way may take to finish when the service is told to stop.", unit="seconds", gt=0
    )

    @model_validator(mode="before")
    @classmethod
    def _fill_data(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("data") is None:
            values = {**values, "data": default_data_folder()}
        return values

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if contradictions := list(self.contradictions()):
            raise ValueError("; ".join(contradictions))
        return self

    def contradictions(self) -> Iterator[str]:
        """What is right by itself, but not together. A service's own model adds to it."""
        if self.kafka_security_protocol.startswith("SASL") and (
            self.kafka_username is None or self.kafka_password is None
        ):
            yield "kafka_security_protocol asks for a login: set kafka_username and kafka_password"

    @property
    def master_key_path(self) -> Path:
        return self.master_key_file or self.data / "master.key"


S = TypeVar("S", bound=CommonSettings)


def load_settings(
    models: Sequence[type[S]],
    *,
    known: Iterable[type[BaseModel]],
    config: Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] = os.environ,
) -> list[S]:
    """Read the settings of several services at once.

    `known` are the models of every installed service: a name that none of them has is a mistake, not something to ignore.
    Raises Misconfigured that lists all mistakes, one a line, each by the name the operator wrote.
    """
    names = {name for model in known for name in model.model_fields}
    mistakes: list[str] = []
    file_values, origin = _read_file(config, environ, names, mistakes)
    env_values = _read_environment(environ, names, mistakes, origin)
    values = {**file_values, **env_values, **{k: v for k, v in (overrides or {}).items() if v is not None}}
    for name in overrides or {}:
        if (overrides or {})[name] is not None:
            origin[name] = f"--{name.replace('_', '-')}"
    loaded = [settings for model in models if (settings := _validate(model, values, origin, mistakes)) is not None]
    if mistakes:
        raise Misconfigured(
            "the settings have mistakes:\n" + "\n".join(f"  - {line}" for line in dict.fromkeys(mistakes))
        )
    return loaded


def _read_file(
    config: Path | None, environ: Mapping[str, str], names: set[str], mistakes: list[str]
) -> tuple[dict[str, Any], dict[str, str]]:
    path = config or (Path(environ["SLIPWAY_CONFIG"]) if environ.get("SLIPWAY_CONFIG") else None)
    if path is None:
        return {}, {}
    try:
        values = tomllib.loads(path.read_text("utf-8"))
    except OSError as exc:
        mistakes.append(f"{path}: {exc.strerror}")
        return {}, {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        mistakes.append(f"{path}: not a TOML file: {exc}")
        return {}, {}
    mistakes.extend(f"{path}: {_unknown(name, names)}" for name in values if name not in names)
    return values, {name: f"{path}: {name}" for name in values}


def _read_environment(
    environ: Mapping[str, str], names: set[str], mistakes: list[str], origin: dict[str, str]
) -> dict[str, str]:
    """`SLIPWAY_X=value`, or `SLIPWAY_X_FILE=/path` for a value kept in a file, as secrets are.

    An empty variable is one that is not set, as compose files pass them on; an empty file is a mistake, and so are both at once.
    """
    values: dict[str, str] = {}
    for variable, value in environ.items():
        if not variable.startswith(PREFIX) or _NOT_SETTINGS.match(variable):
            continue
        name = variable.removeprefix(PREFIX).lower()
        in_file = name not in names and name.removesuffix("_file") in names
        if in_file:
            name = name.removesuffix("_file")
        if name not in names:
            mistakes.append(f"{variable}: {_unknown(name, names, upper=True)}")
        elif value and name in values:
            mistakes.append(f"{' and '.join(sorted((origin[name], variable)))} are both set: keep one")
        elif value:
            values[name] = _read_value(variable, Path(value), mistakes) if in_file else value
            origin[name] = variable
    return values


def _read_value(variable: str, path: Path, mistakes: list[str]) -> str:
    """The content of a setting's file, without the newline at its end."""
    try:
        value = path.read_text("utf-8").strip()
    except OSError as exc:
        mistakes.append(f"{variable}: {path}: {exc.strerror}")
        return ""
    except UnicodeDecodeError:
        mistakes.append(f"{variable}: {path}: not UTF-8 text")
        return ""
    if not value:
        mistakes.append(f"{variable}: the file is empty")
    return value


def _unknown(name: str, names: set[str], *, upper: bool = False) -> str:
    close = difflib.get_close_matches(name, names, n=1)
    hint = f"; did you mean {PREFIX + close[0].upper() if upper else close[0]}?" if close else ""
    return f"{name!r} is not a setting{hint}"


def _validate(model: type[S], values: Mapping[str, Any], origin: Mapping[str, str], mistakes: list[str]) -> S | None:
    lists = {name for name, field in model.model_fields.items() if get_origin(field.annotation) is list}
    given = {name: _split(value) if name in lists else value for name, value in values.items()}
    try:
        return model.model_validate(given)
    except ValidationError as exc:
        for error in exc.errors(include_url=False, include_input=False):
            name = str(error["loc"][0]) if error["loc"] else ""
            where = origin.get(name, name)
            message = error["msg"].removeprefix("Value error, ")
            mistakes.append(f"{where}: {message}" if where else message)
        return None


def describe(models: Iterable[type[BaseModel]]) -> list[dict[str, str]]:
    """One row a setting: name, variable, kind, default, unit, description, danger; common ones once."""
    rows: dict[str, dict[str, str]] = {}
    for model in models:
        for name, field in model.model_fields.items():
            extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
            rows.setdefault(name, {
                "name": name,
                "variable": PREFIX + name.upper(),
                "default": "" if field.default is None else _show(field.default),
                "unit": str(extra.get("unit", "")),
                "description": field.description or "",
                "danger": str(extra.get("danger", "")),
            })  # fmt: skip
    return list(rows.values())


def _show(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return ",".join(value)
    return str(value)
