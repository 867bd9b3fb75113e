"""What the event log and its consumers count."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

APPENDED = Counter("slipway_events_appended_total", "Events written to the log by this process (before their commit).")
APPLIED = Counter("slipway_events_applied_total", "Events whose effect was committed.", ["consumer"])
RETRIED = Counter("slipway_events_retried_total", "Tries put off because a part was away.", ["consumer"])
PARKED = Counter("slipway_events_parked_total", "Streams parked by an event that kept failing.", ["consumer"])
MISSED = Counter("slipway_events_missed_total", "Events that retention took before they were applied.", ["consumer"])
RELOADED = Counter("slipway_events_reloaded_total", "Streams whose state was loaded from a snapshot.", ["consumer"])
REFUSED = Counter(
    "slipway_events_refused_total", "Carried messages that were not taken at their word.", ["consumer", "reason"]
)
BEHIND = Gauge("slipway_events_behind", "Events in the log not yet applied, at the last comparison.", ["consumer"])
PARKED_STREAMS = Gauge("slipway_events_parked_streams", "Streams parked now, at the last comparison.", ["consumer"])
PUBLISH_SECONDS = Histogram(
    "slipway_relay_publish_seconds",
    "From handing a batch to Kafka until all of it was acknowledged.",
    buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30),
)
