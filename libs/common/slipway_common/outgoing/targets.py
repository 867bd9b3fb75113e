"""URLs that users give for Slipway to send requests to: webhooks, identity providers, sources."""

from __future__ import annotations

import re
from ipaddress import IPv4Address

from yarl import URL

from slipway_common.errors import InvalidInput

MAX_URL_LENGTH = 2048

# Scheme and authority without user, zone and percent signs; no fragment; nowhere spaces, control characters, backslashes.
_URL = re.compile(
    r"https?://(?:\[[0-9a-f:.]+\]|[^\x00-\x20\x7f:/?#@\\\[\]%]+)(?::[0-9]{1,5})?(?:[/?][^\x00-\x20\x7f#\\]*)?",
    re.IGNORECASE | re.ASCII,
)
_NAME = re.compile(r"(?=.{1,253}$)[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*\.?")
# What the system's resolver may take for an address: 2130706433, 0x7f.1, 127.1 (the "ends in a number" of the URL standard).
_NUMBER = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)\.?")


class OutgoingRefused(InvalidInput):
    """A request that Slipway does not make: the URL, or the operator's networks, would have to change first."""


def parse_target_url(text: str) -> URL:
    """Read a URL to send requests to: http or https, a host, no user, no fragment, no number in the place of an address.

    Looks nothing up: where a name leads is judged when it is connected. Raises OutgoingRefused, which does not repeat the text.
    """
    try:
        url = URL(text) if len(text) <= MAX_URL_LENGTH and _URL.fullmatch(text) else URL()
        if url.port and _is_host(url.raw_host or ""):
            return url
    except ValueError:
        pass
    raise OutgoingRefused(
        f"write a URL like https://host/path, without user, password and fragment, of at most {MAX_URL_LENGTH} characters"
    )


def _is_host(host: str) -> bool:
    """An address in its canonical form, or a name; after yarl, which has made `①.②` and `。` into what they stand for.

    Raises ValueError for an address in any other form.
    """
    if _NUMBER.fullmatch(host):
        IPv4Address(host)
    return ":" in host or _NAME.fullmatch(host) is not None
