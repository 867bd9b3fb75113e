"""Slipway itself as other programs meet it: processes with an address, a log and a password."""

from __future__ import annotations

import http.client
import os
import secrets
import ssl
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.parts.kafka import KafkaBroker
from tests.parts.postgres import PostgresServer
from tests.parts.process import NotStarted, Program, free_port, remove_folder, temporary_folder
from tests.parts.s3 import S3Server

START_TIMEOUT_S = 60.0
USERNAME = "admin"


class SlipwayProcess:
    """One `slipway serve`: everything in one process unless `services` names some.

    Its folder, address and password stay the same over kill() and start(), as on a machine that reboots.
    """

    def __init__(
        self,
        data_dir: Path | None = None,
        env: Mapping[str, str] | None = None,
        args: Sequence[str] = (),
        *,
        services: Sequence[str] = (),
        port: int | None = None,
        password: str | None = None,
    ) -> None:
        """`env` adds settings; `args` are further options of `slipway serve`; an empty `password` sets none.

        A process without the gateway has no public address: its internal one (`port`) tells whether it is ready.
        """
        self._own_folder = data_dir is None
        self.data_dir = data_dir or temporary_folder("data")
        self.port = port or free_port()
        self.username = USERNAME
        self.password = "test-" + secrets.token_urlsafe(12) if password is None else password
        self._services = tuple(services)
        self._args = tuple(args)
        self._env = dict(env or {})
        self.log = self.data_dir / f"{'-'.join(services) or 'slipway'}.log"
        self._program: Program | None = None

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"{'https' if self._speaks_tls else 'http'}://{self.host}"

    @property
    def _speaks_tls(self) -> bool:
        return "SLIPWAY_TLS_CERTIFICATE" in self._env

    @property
    def pid(self) -> int:
        assert self._program is not None
        return self._program.pid

    @property
    def environment(self) -> dict[str, str]:
        """Nothing of the tester's own SLIPWAY_ settings reaches it."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("SLIPWAY_")}
        password = {"SLIPWAY_ADMIN_PASSWORD": self.password} if self.password else {}
        return {**inherited, "SLIPWAY_LOG_FORMAT": "json", **password, **self._env}

    def start(self, *, timeout_s: float = START_TIMEOUT_S) -> SlipwayProcess:
        self.spawn()
        try:
            self.wait_ready(timeout_s=timeout_s)
        except NotStarted:
            self.close()
            raise
        return self

    def spawn(self) -> None:
        """Start without waiting. To be called from the main thread: a process dies with the thread that began it."""
        listen = ("--listen", self.host) if not self._services or "gateway" in self._services else ()
        command = [sys.executable, "-m", "slipway_common", "serve", *self._services, *listen]
        self._program = Program(
            "slipway " + (" ".join(self._services) or "(all services)"),
            [*command, "--data", str(self.data_dir), *self._args],
            log=self.log,
            environment=self.environment,
        )
        self._program.spawn()

    def wait_ready(self, *, timeout_s: float = START_TIMEOUT_S) -> None:
        """Return at the first 2xx of /readyz."""
        assert self._program is not None
        deadline = time.monotonic() + timeout_s
        while not self.is_ready():
            self._program.check_running()
            if time.monotonic() > deadline:
                raise NotStarted(f"slipway was not ready within {timeout_s:.0f} s:\n{self._program.tail()}")
            time.sleep(0.02)

    def is_ready(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        if self._speaks_tls:
            # Only whether it answers counts here; clients check the certificate.
            unverified = ssl._create_unverified_context()
            connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=5, context=unverified)
        try:
            connection.request("GET", "/readyz")
            return 200 <= connection.getresponse().status < 300
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def is_running(self) -> bool:
        return self._program is not None and self._program.is_running()

    def kill(self) -> None:
        """SIGKILL this process and not its children, as the out-of-memory killer would."""
        if self._program is not None:
            self._program.kill()

    def terminate(self) -> int | None:
        """Ask it to stop in order; return its exit code."""
        return self._program.terminate() if self._program is not None else None

    def tail(self) -> str:
        return self._program.tail() if self._program is not None else ""

    def close(self) -> None:
        self.terminate()
        if self._own_folder:
            remove_folder(self.data_dir)


class SlipwayStack:
    """The services as processes of their own, on a PostgreSQL, a Kafka and an S3 server that are not theirs."""

    def __init__(
        self,
        postgres: PostgresServer,
        kafka: KafkaBroker,
        s3: S3Server,
        *,
        env: Mapping[str, str] | None = None,
        gateways: int = 1,
    ) -> None:
        """The servers are running already, and closed with the stack; `env` goes to every service."""
        self.postgres = postgres
        self.kafka = kafka
        self.s3 = s3
        self.folder = temporary_folder("stack")
        self.password = "test-" + secrets.token_urlsafe(12)
        self._env = dict(env or {})
        internal_ports = [free_port() for _ in range(gateways)]
        metadata_port = free_port()
        self._addresses = {
            "SLIPWAY_GATEWAY_URL": f"http://127.0.0.1:{internal_ports[0]}",
            "SLIPWAY_METADATA_URL": f"http://127.0.0.1:{metadata_port}",
        }
        self.gateways = [self._make("gateway", number, port) for number, port in enumerate(internal_ports)]
        self.metadata = self._make("metadata", 0, metadata_port)

    @property
    def gateway(self) -> SlipwayProcess:
        return self.gateways[0]

    @property
    def url(self) -> str:
        return self.gateway.url

    @property
    def host(self) -> str:
        return self.gateway.host

    @property
    def port(self) -> int:
        return self.gateway.port

    @property
    def username(self) -> str:
        return USERNAME

    def _make(self, service: str, number: int, internal_port: int) -> SlipwayProcess:
        data_dir = self.folder / f"{service}-{number}"
        data_dir.mkdir(mode=0o755)
        return SlipwayProcess(
            data_dir,
            {**self._settings(), "SLIPWAY_INTERNAL_LISTEN": f"127.0.0.1:{internal_port}"},
            services=(service,),
            port=None if service == "gateway" else internal_port,
            password=self.password,
        )

    def _settings(self) -> dict[str, str]:
        return {
            "SLIPWAY_DATABASE_URL": self.postgres.dsn,
            "SLIPWAY_STORAGE": "s3",
            "SLIPWAY_S3_ENDPOINT_URL": self.s3.endpoint_url,
            "SLIPWAY_S3_REGION": self.s3.region,
            "SLIPWAY_S3_BUCKET": self.s3.bucket,
            "SLIPWAY_S3_ACCESS_KEY": self.s3.access_key,
            "SLIPWAY_S3_SECRET_KEY": self.s3.secret_key,
            "SLIPWAY_BUS": "kafka",
            "SLIPWAY_KAFKA_BOOTSTRAP_SERVERS": self.kafka.bootstrap_servers,
            "SLIPWAY_MASTER_KEY_FILE": str(self.folder / "master.key"),
            **self._addresses,
            **self._env,
        }

    def start(self) -> SlipwayStack:
        # The first gateway makes the schema and the master key; the others find them.
        for process in (*self.gateways, self.metadata):
            process.start()
        return self

    def tail(self) -> str:
        return "\n".join(process.tail() for process in (*self.gateways, self.metadata))

    def close(self) -> None:
        for process in (self.metadata, *self.gateways):
            process.terminate()
        remove_folder(self.folder)
        for server in (self.kafka, self.s3, self.postgres):
            server.close()
