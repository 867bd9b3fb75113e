"""What the management API says of itself is true, whatever it is sent: requests that schemathesis makes from its document.

Of every answer: no failure of the server, a status and a media type that the document has, a body of the form that it gives.
"""

from __future__ import annotations

import asyncio
import os
import random
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import Case, GenerationMode
from schemathesis.specs.openapi import checks

from slipway_common import __version__
from slipway_common.web.routes import openapi_document
from tests.integration.gateway.client import basic, open_client
from tests.integration.gateway.conftest import gateway_of_its_own
from tests.integration.gateway.people import add_namespace, add_repository, add_robot, add_user, grant
from tests.integration.gateway.running import ADMIN, PASSWORD, RunningGateway, services

# For each operation; SLIPWAY_TEST_API_FUZZ=1000 is the long form.
_EXAMPLES = int(os.environ.get("SLIPWAY_TEST_API_FUZZ", "40"))
# What is there, so that requests get further than "no such …". The administrator who asks is none of them.
THERE = {
    "name": ["fuzz/web", "fuzz/base"], "namespace": ["fuzz", "_"], "user": ["fuzz-user"], "team": ["fuzz-team"],
    "robot": ["fuzz+ci"], "subject": ["user:fuzz-user", "team:fuzz-team", "robot:fuzz+ci"], "reference": ["latest"],
}  # fmt: skip


@pytest.fixture(scope="module")
def gateway(postgres_server: str) -> Iterator[RunningGateway]:
    with gateway_of_its_own(postgres_server, "fuzzed_gateway", services=("gateway", "metadata")) as started:
        thread = threading.Thread(target=lambda: asyncio.run(furnish(started)))
        thread.start()
        thread.join()
        yield started


async def furnish(gateway: RunningGateway) -> None:
    async with open_client(gateway.url) as admin:
        await add_namespace(admin, "fuzz")
        for name in THERE["name"]:
            await add_repository(admin, name)
        await add_user(admin, "fuzz-user")
        await add_robot(admin, "fuzz", "ci")
        await admin.api("POST", "/teams", {"name": "fuzz-team"})
        await admin.api("PUT", "/teams/fuzz-team/members/fuzz-user", {"role": "member"})
        await grant(admin, "user:fuzz-user", "reader", "fuzz/web")


DOCUMENT = openapi_document(tuple(route for one in services().values() for route in one.routes), version=__version__)
api = schemathesis.openapi.from_dict(DOCUMENT)
OPERATIONS = [found.ok() for found in api.get_all_operations()]
CHECKS = [
    schemathesis.checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]
_chosen = random.Random(0)


@api.hook("map_path_parameters")
def name_what_is_there(_context: Any, parameters: dict[str, Any] | None) -> dict[str, Any] | None:
    return {
        name: _chosen.choice(THERE[name]) if name in THERE and _chosen.random() < 0.7 else value
        for name, value in (parameters or {}).items()
    }


async def test_document_that_is_served_is_the_one_that_is_tested(gateway: RunningGateway) -> None:
    async with open_client(gateway.url) as nobody:
        assert (await nobody.anonymous().api("GET", "/openapi.json")).json() == DOCUMENT


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.label)
def test_every_answer_is_as_the_document_says(operation: Any, gateway: RunningGateway) -> None:
    login = {"Authorization": basic(ADMIN, PASSWORD)}

    @settings(
        max_examples=_EXAMPLES, deadline=None, derandomize=True, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(case=operation.as_strategy() | operation.as_strategy(generation_mode=GenerationMode.NEGATIVE))
    def ask(case: Case) -> None:
        case.validate_response(case.call(base_url=gateway.url, headers=login), checks=CHECKS)

    ask()
