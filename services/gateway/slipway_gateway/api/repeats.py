"""Which answers of the registry may be given again to the same request, and for how long."""

from __future__ import annotations

from slipway_common.web.repeats import Answer, RepeatingConnection
from slipway_gateway.api.call import Call
from slipway_gateway.api.responses import SERVER, Premise, PreparedBytes
from slipway_gateway.cache import ExactCache, principal_key, repository_key


class Repeats:
    """Offers an answer to the connection it goes out on, with what it rests on: account, repository, content, credential."""

    def __init__(self, cache: ExactCache) -> None:
        self._cache = cache

    def offer(self, call: Call, response: PreparedBytes) -> None:
        """Let the connection remember `response`, if answers are exact at this moment."""
        connection = call.request.protocol
        if not self._cache.enabled or not isinstance(connection, RepeatingConnection) or not connection.wants_answer():
            return
        premises = self._premises(call, response)
        holds = self._cache.holds
        if not all(holds(key, answer) for key, answer in premises):
            return
        (key_1, answer_1), (key_2, answer_2), *more = premises
        (key_3, answer_3) = more[0] if more else (key_2, answer_2)

        def still_holds() -> bool:
            return holds(key_1, answer_1) and holds(key_2, answer_2) and holds(key_3, answer_3)

        headers = {**response.plain_headers, "Server": SERVER}
        connection.remember(
            Answer(response.status, headers, response.content, holds=still_holds, expires_at=call.identity.expires_at)
        )

    def _premises(self, call: Call, response: PreparedBytes) -> list[Premise]:
        premises = list(response.premises or ())
        premises.append((repository_key(call.name), call.existing()))
        if call.identity.name is not None:
            key = principal_key(call.identity.name)
            premises.append((key, self._cache.find(key)))
        return premises
