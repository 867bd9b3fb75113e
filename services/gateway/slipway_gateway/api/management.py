"""What the handlers of the management API work with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import asyncpg
from aiohttp import web

from slipway_common.events.log import EventLog
from slipway_gateway.access import Access
from slipway_gateway.accounts import Accounts
from slipway_gateway.api.challenges import PublicAddress
from slipway_gateway.audit import Audit
from slipway_gateway.credentials import Credentials
from slipway_gateway.explanations import Explanations
from slipway_gateway.grants import Grants
from slipway_gateway.identity import Authenticator
from slipway_gateway.namespaces import Namespaces
from slipway_gateway.repositories import Repositories
from slipway_gateway.robots import Robots
from slipway_gateway.sessions import LoginSessions
from slipway_gateway.store.accounts import AccountStore
from slipway_gateway.store.grants import GrantStore
from slipway_gateway.store.namespaces import NamespaceStore
from slipway_gateway.store.repositories import RepositoryStore
from slipway_gateway.store.robots import RobotStore
from slipway_gateway.store.teams import TeamStore
from slipway_gateway.teams import Teams
from slipway_gateway.workloads import Workloads


@dataclass(slots=True)
class Management:
    """Use cases change things; stores are for looking."""

    access: Access
    repositories: Repositories
    namespaces: Namespaces
    grants: Grants
    accounts: Accounts
    teams: Teams
    robots: Robots
    workloads: Workloads
    credentials: Credentials
    sessions: LoginSessions
    audit: Audit
    explanations: Explanations
    repository_store: RepositoryStore
    namespace_store: NamespaceStore
    grant_store: GrantStore
    account_store: AccountStore
    team_store: TeamStore
    robot_store: RobotStore
    log: EventLog
    pool: asyncpg.Pool
    document: Callable[[], dict[str, Any]]
    users_create_namespaces: bool


MANAGEMENT = web.AppKey("management", Management)
AUTHENTICATOR = web.AppKey("authenticator", Authenticator)
ADDRESS = web.AppKey("address", PublicAddress)
