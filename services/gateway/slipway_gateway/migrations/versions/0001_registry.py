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
    storage_key     text NOT NULL,
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
    repository_id  bigint NOT NULL,
    tag            text COLLATE "C" NOT NULL,
    digest         text COLLATE "C",
    at             timestamptz NOT NULL DEFAULT clock_timestamp(),
    actor          text
);
CREATE INDEX tag_history_by_tag ON gateway.tag_history (repository_id, tag, id);

-- A session's whole state, so that any process may go on with it. `lease_token` fences off a writer that was overtaken.
-- Rows come and go with every blob: no foreign key that would lock the repository's row each time, no index but the key, and
-- room in each page for updates in place. Few are there at once, so whoever looks for idle ones reads them all.
CREATE TABLE gateway.uploads (
    id             uuid PRIMARY KEY,
    repository_id  bigint NOT NULL,
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
) WITH (fillfactor = 50);

-- Storage keys that nothing in the database names any more: delete the object, then the row.
CREATE TABLE gateway.reclaim (
    storage_key   text PRIMARY KEY,
    unfinished    boolean NOT NULL DEFAULT false,
    writer_state  json,
    queued_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    not_before    timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX reclaim_by_time ON gateway.reclaim (not_before);

-- The push of a manifest, whole: lock what it names, look whether all of it is there, write, and tell of it. One round trip, and
-- each statement in here sees what was committed before it began: what a lock waited for is seen by the look that follows.
-- Lock order as everywhere: repository, links, manifests, edges, tags, stream. Answers one row for each thing amiss ('gone',
-- 'missing', 'size'), and then has written nothing; else one row for each tag that was set.
CREATE FUNCTION gateway.push_manifest(
    p_guard bigint, p_repository_id bigint, p_digest text, p_media_type text, p_artifact_type text, p_image_id text,
    p_subject_digest text, p_tree_size_bytes bigint, p_os text, p_architecture text, p_variant text, p_body bytea,
    p_annotations json, p_lease interval, p_actor text, p_blobs text[], p_blob_sizes bigint[], p_children text[],
    p_child_sizes bigint[], p_tags text[], p_stream text, p_event_ids uuid[], p_event_types text[], p_event_subjects text[],
    p_event_data text[], p_source text, p_event_actor text, p_request_id text
) RETURNS TABLE (kind text, name text, detail text) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    replaced  json;
    last      int := cardinality(p_event_data);
BEGIN
    IF p_guard IS NOT NULL THEN
        PERFORM pg_advisory_xact_lock_shared(p_guard);
    END IF;
    PERFORM FROM gateway.repositories r WHERE r.id = p_repository_id AND r.deleted_at IS NULL FOR KEY SHARE;
    IF NOT FOUND THEN
        RETURN QUERY SELECT 'gone', NULL::text, NULL::text;
        RETURN;
    END IF;
    PERFORM FROM gateway.repository_blobs l
    WHERE l.repository_id = p_repository_id AND l.digest = ANY (p_blobs) ORDER BY l.digest FOR KEY SHARE;
    PERFORM FROM gateway.manifests m
    WHERE m.repository_id = p_repository_id AND m.digest = ANY (p_children) ORDER BY m.digest FOR KEY SHARE;

    RETURN QUERY
    SELECT CASE WHEN b.digest IS NULL THEN 'missing' ELSE 'size' END, w.digest, b.size_bytes::text
    FROM unnest(p_blobs, p_blob_sizes) AS w (digest, size_bytes)
    LEFT JOIN gateway.repository_blobs l
        ON l.repository_id = p_repository_id AND l.digest = w.digest AND l.hidden_at IS NULL
    LEFT JOIN gateway.blobs b ON b.digest = l.digest AND b.quarantined_at IS NULL
    WHERE b.size_bytes IS DISTINCT FROM w.size_bytes
    UNION ALL
    SELECT CASE WHEN m.digest IS NULL THEN 'missing' ELSE 'size' END, w.digest, octet_length(m.body)::text
    FROM unnest(p_children, p_child_sizes) AS w (digest, size_bytes)
    LEFT JOIN gateway.manifests m
        ON m.repository_id = p_repository_id AND m.digest = w.digest AND m.deleted_at IS NULL
    WHERE octet_length(m.body) IS DISTINCT FROM w.size_bytes;
    IF FOUND THEN
        RETURN;
    END IF;

    INSERT INTO gateway.manifests AS m (
        repository_id, digest, media_type, artifact_type, image_id, subject_digest, tree_size_bytes, os, architecture, variant,
        body, annotations, lease_until, pushed_by
    )
    VALUES (
        p_repository_id, p_digest, p_media_type, p_artifact_type, p_image_id, p_subject_digest, p_tree_size_bytes, p_os,
        p_architecture, p_variant, p_body, p_annotations, clock_timestamp() + 2 * p_lease, p_actor
    )
    ON CONFLICT (repository_id, digest) DO UPDATE
    SET media_type = EXCLUDED.media_type, deleted_at = NULL, lease_until = EXCLUDED.lease_until,
        pushed_at = clock_timestamp(), pushed_by = EXCLUDED.pushed_by;
    INSERT INTO gateway.manifest_blobs (repository_id, manifest_digest, blob_digest)
    SELECT DISTINCT p_repository_id, p_digest, b FROM unnest(p_blobs) b
    ON CONFLICT DO NOTHING;
    INSERT INTO gateway.manifest_children (repository_id, parent_digest, child_digest)
    SELECT DISTINCT p_repository_id, p_digest, c FROM unnest(p_children) c
    ON CONFLICT DO NOTHING;
    WITH tagged AS (
        INSERT INTO gateway.tags AS t (repository_id, name, digest, updated_by)
        SELECT p_repository_id, tag, p_digest, p_actor FROM unnest(p_tags) tag ORDER BY tag
        ON CONFLICT (repository_id, name) DO UPDATE
        SET previous_digest = t.digest, digest = EXCLUDED.digest, updated_at = clock_timestamp(),
            updated_by = EXCLUDED.updated_by
        RETURNING t.name, t.digest, t.previous_digest
    ), history AS (
        INSERT INTO gateway.tag_history (repository_id, tag, digest, actor)
        SELECT p_repository_id, tagged.name, tagged.digest, p_actor FROM tagged
    )
    SELECT json_object_agg(tagged.name, tagged.previous_digest)
    FROM tagged WHERE tagged.previous_digest <> tagged.digest
    INTO replaced;

    -- Only here is it known what the tags named before. The event of the image is the last one; within its strings every
    -- quotation mark is escaped, so the empty member stands in it once.
    IF replaced IS NOT NULL THEN
        p_event_data[last] := replace(p_event_data[last], '"replaced":{}', '"replaced":' || replaced::text);
    END IF;
    PERFORM log.append(
        p_stream, p_event_ids, p_event_types, p_event_subjects, p_event_data, p_source, p_event_actor, p_request_id
    );
    RETURN QUERY SELECT 'tag', tag, NULL::text FROM unnest(p_tags) tag;
END
$$;
"""
