"""Errors as the command line tells them: a sentence on stderr, and an exit code.

0    done
1    the server refused: the request is not valid, or not possible now; or whoever was asked said no
2    wrong usage: options, settings, a file
3    not logged in, or the login does not hold (401)
4    not allowed (403)
5    not found (404)
6    not reachable, or the server failed (5xx)
130  interrupted
"""

from __future__ import annotations

from typing import Final

import typer

from slipway_common import errors
from slipway_common.client.text import printable

WRONG_USAGE: Final = 2
_LOGIN, _DENIED, _NOT_FOUND, _AWAY, _REFUSED = 3, 4, 5, 6, 1
_BY_STATUS: Final = {401: _LOGIN, 403: _DENIED, 404: _NOT_FOUND}
# The first class that matches counts; whatever is not here is wrong usage.
_BY_CLASS: Final[tuple[tuple[type[errors.SlipwayError], int], ...]] = (
    (errors.Unauthenticated, _LOGIN),
    (errors.Denied, _DENIED),
    (errors.NotFound, _NOT_FOUND),
    (errors.Unavailable, _AWAY),
    (errors.Conflict, _REFUSED),
)


class ApiError(errors.SlipwayError):
    """The server answered that it will not: a problem document (RFC 9457)."""

    def __init__(self, status: int, title: str, detail: str = "", request_id: str = "") -> None:
        super().__init__(f"{title}: {detail}" if detail else title)
        self.status = status
        self.title = title
        self.detail = detail
        self.request_id = request_id


def exit_code(error: errors.SlipwayError) -> int:
    """The code that a command ends with when it meets this error."""
    if isinstance(error, ApiError):
        return _BY_STATUS.get(error.status, _AWAY if error.status >= 500 else _REFUSED)
    return next((code for kind, code in _BY_CLASS if isinstance(error, kind)), WRONG_USAGE)


def report(error: errors.SlipwayError) -> int:
    """Say on stderr what went wrong; return the exit code."""
    request = f" (request {error.request_id})" if isinstance(error, ApiError) and error.request_id else ""
    name = typer.style("slipway:", fg="red")
    typer.echo(f"{name} {printable(error.message + request, lines=True)}", err=True)
    return exit_code(error)
