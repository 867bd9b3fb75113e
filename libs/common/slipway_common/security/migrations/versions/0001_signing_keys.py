"""Signing keys, encrypted by the master key."""

revision = "0001"
down_revision = None

SQL = """
CREATE TABLE keys.signing_keys (
    kid          text PRIMARY KEY,
    purpose      text NOT NULL,
    private_key  bytea NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX signing_keys_by_purpose ON keys.signing_keys (purpose, created_at);
"""
