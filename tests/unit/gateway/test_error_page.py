"""docs/protocol.md tells every error the registry protocol can answer with, and no other."""

from __future__ import annotations

from pathlib import Path

from slipway_gateway.api.oci_errors import TABLE

_PAGE = Path(__file__).resolve().parents[3] / "docs" / "protocol.md"


def render_errors() -> str:
    """The table of docs/protocol.md."""
    rows = sorted({(row.status, row.code, row.message) for _, row in TABLE})
    lines = [f"| {status} | `{code}` | {message} |" for status, code, message in rows]
    return "\n".join(["| status | code | when |", "|---|---|---|", *lines])


def test_protocol_page_tells_every_error() -> None:
    _, _, rest = _PAGE.read_text("utf-8").partition("<!-- errors: begin")
    told = rest.partition("-->\n")[2].partition("\n<!-- errors: end -->")[0]
    assert told == render_errors(), f"put this into {_PAGE.name}:\n\n{render_errors()}"
