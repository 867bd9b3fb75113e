"""Settings of the metadata service: it needs none of its own yet."""

from __future__ import annotations

from slipway_common.settings import CommonSettings


class MetadataSettings(CommonSettings):
    """What only metadata needs to know."""
