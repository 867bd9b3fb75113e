"""Principals, repositories, blobs, manifests, tags, upload sessions, the reclaim list."""

revision = "0001"
down_revision = None

SQL = """
CREATE TABLE gateway.principals (
    id                  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind                text NOT NULL CHECK (kind IN ('user', 'robot')),
    name                text COLLATE "C" NOT NULL UNIQUE,
    password_hash       text,
    credential_version  int NOT NULL DEFAULT 1,
    is_admin            boolean NOT NULL DEFAULT false,
    disabled_at         timestamptz,
    created_at          timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE TABLE gateway.namespaces (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name        text COLLATE "C" NOT NULL UNIQUE,
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE TABLE gateway.repositories (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    namespace_id  bigint NOT NULL REFERENCES gateway.namespaces,
    name          text COLLATE "C" NOT NULL,
    visibility    text NOT NULL CHECK (visibility IN ('public', 'private')),
    created_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    created_by    text,
    deleted_at    timestamptz
);
CREATE UNIQUE INDEX repositories_by_name ON gateway.repositories (name) WHERE deleted_at IS NULL;
CREATE INDEX repositories_by_namespace ON gateway.repositories (namespace_id);

-- One row for content wherever it is linked; where the bytes are is an opaque key, never derived from the digest.
CREATE TABLE gateway.blobs (
    digest          text COLLATE "C" PRIMARY KEY,
    size_bytes      bigint NOT NULL CHECK (size_bytes >= 0),
    storage_key     text NOT NULL UNIQUE,
    created_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    quarantined_at  timestamptz
);

-- Access to a blob goes by this row alone.
CREATE TABLE gateway.repository_blobs (
    repository_id  bigint NOT NULL REFERENCES gateway.repositories,
    digest         text COLLATE "C" NOT NULL REFERENCES gateway.blobs,
    linked_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    lease_until    timestamptz NOT NULL,
    hidden_at      timestamptz,
    PRIMARY KEY (repository_id, digest)
);
CREATE INDEX repository_blobs_by_digest ON gateway.repository_blobs (digest);

CREATE TABLE gateway.manifests (
    repository_id    bigint NOT NULL REFERENCES gateway.repositories,
    digest           text COLLATE "C" NOT NULL,
    media_type       text NOT NULL,
    artifact_type    text,
    image_id         text,
    subject_digest   text COLLATE "C",
    tree_size_bytes  bigint NOT NULL,
    os               text,
    architecture     text,
    variant          text,
    body             bytea NOT NULL,
    annotations      json,
    lease_until      timestamptz NOT NULL,
    pushed_at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    pushed_by        text,
    deleted_at       timestamptz,
    PRIMARY KEY (repository_id, digest)
);
ALTER TABLE gateway.manifests ALTER COLUMN body SET STORAGE EXTERNAL;
CREATE INDEX manifests_by_subject ON gateway.manifests (repository_id, subject_digest, digest)
    WHERE subject_digest IS NOT NULL AND deleted_at IS NULL;

-- Edges outlive a manifest's stay in the trash: they keep what a restore needs.
CREATE TABLE gateway.manifest_blobs (
    repository_id    bigint NOT NULL,
    manifest_digest  text COLLATE "C" NOT NULL,
    blob_digest      text COLLATE "C" NOT NULL,
    PRIMARY KEY (repository_id, manifest_digest, blob_digest),
    FOREIGN KEY (repository_id, manifest_digest) REFERENCES gateway.manifests ON DELETE CASCADE,
    FOREIGN KEY (repository_id, blob_digest) REFERENCES gateway.repository_blobs ON DELETE RESTRICT
);
CREATE INDEX manifest_blobs_by_blob ON gateway.manifest_blobs (repository_id, blob_digest);

CREATE TABLE gateway.manifest_children (
    repository_id  bigint NOT NULL,
    parent_digest  text COLLATE "C" NOT NULL,
    child_digest   text COLLATE "C" NOT NULL,
    PRIMARY KEY (repository_id, parent_digest, child_digest),
    FOREIGN KEY (repository_id, parent_digest) REFERENCES gateway.manifests ON DELETE CASCADE,
    FOREIGN KEY (repository_id, child_digest) REFERENCES gateway.manifests ON DELETE RESTRICT
);
CREATE INDEX manifest_children_by_child ON gateway.manifest_children (repository_id, child_digest);

CREATE TABLE gateway.tags (
    repository_id    bigint NOT NULL,
    name             text COLLATE "C" NOT NULL,
    digest           text COLLATE "C" NOT NULL,
    previous_digest  text COLLATE "C",
    updated_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_by       text,
    PRIMARY KEY (repository_id, name),
    FOREIGN KEY (repository_id, digest) REFERENCES gateway.manifests ON DELETE RESTRICT
);
CREATE INDEX tags_by_digest ON gateway.tags (repository_id, digest);

-- What a tag pointed to, when; digest NULL: it was deleted. Written under the tag's row lock, so `id` is its order.
CREATE TABLE gateway.tag_history (
    id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    repository_id  bigint NOT NULL REFERENCES gateway.repositories,
    tag            text COLLATE "C" NOT NULL,
    digest         text COLLATE "C",
    at             timestamptz NOT NULL DEFAULT clock_timestamp(),
    actor          text
);
CREATE INDEX tag_history_by_tag ON gateway.tag_history (repository_id, tag, id);

-- A session's whole state, so that any process may go on with it. `lease_token` fences off a writer that was overtaken.
CREATE TABLE gateway.uploads (
    id             uuid PRIMARY KEY,
    repository_id  bigint NOT NULL REFERENCES gateway.repositories,
    principal      text NOT NULL,
    storage_key    text NOT NULL,
    algorithm      text NOT NULL,
    offset_bytes   bigint NOT NULL DEFAULT 0,
    digest_so_far  text,
    writer_state   json,
    lease_token    uuid,
    lease_until    timestamptz NOT NULL DEFAULT '-infinity',
    created_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    touched_at     timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX uploads_by_touch ON gateway.uploads (touched_at);
CREATE INDEX uploads_by_repository ON gateway.uploads (repository_id);

-- Storage keys that nothing in the database names any more: delete the object, then the row.
CREATE TABLE gateway.reclaim (
    storage_key   text PRIMARY KEY,
    unfinished    boolean NOT NULL DEFAULT false,
    writer_state  json,
    queued_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    not_before    timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX reclaim_by_time ON gateway.reclaim (not_before);
"""
