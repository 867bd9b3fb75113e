"""Small blobs are rows, and what an upload has so far is in its session's row while it is small."""

revision = "0003"
down_revision = "0002"

SQL = """
-- The bytes themselves, uncompressed and outside the row proper; or the key of the object that has them, else ''.
ALTER TABLE gateway.blobs ADD COLUMN content bytea;
ALTER TABLE gateway.blobs ALTER COLUMN content SET STORAGE EXTERNAL;
-- Not validated: of the rows that are there each has a key and no bytes, and it would be read while nobody can push.
ALTER TABLE gateway.blobs ADD CONSTRAINT content_or_key CHECK ((content IS NULL) = (storage_key <> '')) NOT VALID;

-- `content`: all that has come, while it is small; nothing that counts is in storage then. `opened`: a writer before may have
-- left something under the key all the same, as the present one may while its `lease_token` stands. Of sessions that the version
-- before begins, or has begun, it is not known.
ALTER TABLE gateway.uploads ADD COLUMN content bytea, ADD COLUMN opened boolean NOT NULL DEFAULT true;
ALTER TABLE gateway.uploads ALTER COLUMN content SET STORAGE EXTERNAL;
"""
