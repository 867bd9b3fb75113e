"""Which answers of the registry may be given again to the same request, and for how long."""

from __future__ import annotations

from slipway_common.web.repeats import Answer, RepeatingConnection
from slipway_gateway.access import ACCESS_KEY
from slipway_gateway.api.call import Call
from slipway_gateway.api.responses import PreparedBytes
from slipway_gateway.cache import ExactCache
from slipway_gateway.throttle import RequestRates


class Repeats:
    """Offers an answer to the connection it goes out on, with what it rests on: content, everybody's rights, the credential."""

    def __init__(self, cache: ExactCache, rates: RequestRates) -> None:
        self._cache = cache
        self._rates = rates

    def offer(self, call: Call, response: PreparedBytes) -> None:
        """Let the connection remember `response`, if answers are exact at this moment."""
        connection = call.request.protocol
        if not self._cache.enabled or not isinstance(connection, RepeatingConnection) or not connection.wants_answer():
            return
        if self._rates.limited or call.standing.basis is None:
            return  # every request is counted then; nobody would tell when the rights change
        premises = [*(response.premises or ()), (ACCESS_KEY, call.standing.basis)]
        holds = self._cache.holds
        if not all(holds(key, answer) for key, answer in premises):
            return
        (content_key, content), (access_key, access) = premises

        def still_holds() -> bool:
            return holds(content_key, content) and holds(access_key, access)

        expires_at = call.identity.expires_at
        connection.remember(Answer(response.head, response.content, holds=still_holds, expires_at=expires_at))
