"""One request of the registry protocol, once it is known who asks for what."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

from aiohttp import web
from multidict import MultiMapping

from slipway_common.events.event import Origin
from slipway_common.oci.names import RepositoryName
from slipway_common.web.request_ids import request_id_of
from slipway_gateway.api.oci_errors import NameUnknown
from slipway_gateway.api.transfer import BodyCutOff, RateLimits, receive_body
from slipway_gateway.domain.access import Identity
from slipway_gateway.intake import Receive
from slipway_gateway.store.access import Standing
from slipway_gateway.store.repositories import Repository
from slipway_gateway.uploads import CutOff


@dataclass(slots=True)
class Call:
    """What every handler gets: who asks from which address, and where they stand at the name.

    `name` is the name that was asked for, which may be one that the repository had before.
    """

    request: web.BaseRequest
    name: RepositoryName
    reference: str
    identity: Identity
    standing: Standing
    address: str
    _origin: Origin | None = field(default=None, init=False, repr=False)

    @property
    def origin(self) -> Origin:
        """Whose doing it is, for what is written down: the same each time, also where the request has no id of its own."""
        if self._origin is None:
            self._origin = Origin(self.actor, request_id_of(self.request), self.address)
        return self._origin

    @property
    def repository(self) -> Repository | None:
        """None if there is none of that name."""
        return self.standing.repository

    def existing(self) -> Repository:
        """The repository; raises NameUnknown."""
        if self.repository is None:
            raise NameUnknown("no such repository", name=self.name)
        return self.repository

    @property
    def query(self) -> MultiMapping[str]:
        return self.request.query

    @property
    def actor(self) -> str:
        return self.identity.actor


def receiver(request: web.BaseRequest, rate: RateLimits) -> Receive:
    """How a use case takes in this request's body."""

    async def receive(consume, *, room, flush):  # type: ignore[no-untyped-def]
        try:
            return await receive_body(request, consume, room=room, flush=flush, rate=rate)
        except BodyCutOff as exc:
            raise CutOff(exc.message, received_bytes=exc.received_bytes) from exc

    return partial(receive)
