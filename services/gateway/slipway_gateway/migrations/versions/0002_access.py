"""Who may do what: teams, credentials, grants, settings of namespaces and repositories, login sessions, refusals."""

revision = "0002"
down_revision = "0001"

SQL = """
ALTER TABLE gateway.namespaces
    ADD COLUMN description         text NOT NULL DEFAULT '',
    ADD COLUMN create_on_push      boolean NOT NULL DEFAULT true,
    ADD COLUMN default_visibility  text CHECK (default_visibility IN ('public', 'private')),
    ADD COLUMN public_allowed      boolean NOT NULL DEFAULT true,
    ADD COLUMN version             int NOT NULL DEFAULT 1,
    ADD COLUMN created_by          text;

ALTER TABLE gateway.repositories
    ADD COLUMN kind         text NOT NULL DEFAULT 'package' CHECK (kind IN ('package', 'application')),
    ADD COLUMN description  text NOT NULL DEFAULT '',
    ADD COLUMN labels       jsonb NOT NULL DEFAULT '{}',
    ADD COLUMN version      int NOT NULL DEFAULT 1,
    ADD COLUMN updated_at   timestamptz NOT NULL DEFAULT clock_timestamp();
CREATE INDEX public_repositories ON gateway.repositories (name) WHERE visibility = 'public' AND deleted_at IS NULL;
CREATE INDEX deleted_repositories ON gateway.repositories (name, deleted_at) WHERE deleted_at IS NOT NULL;
CREATE INDEX repositories_in_namespace ON gateway.repositories (namespace_id, name) WHERE deleted_at IS NULL;

-- One blob may be in every repository: whoever asks for it in one must not meet the others.
DROP INDEX gateway.repository_blobs_by_digest;
CREATE INDEX repository_blobs_by_digest ON gateway.repository_blobs (digest, repository_id);

-- Names that a repository had before: they lead to it until then.
CREATE TABLE gateway.repository_aliases (
    name           text COLLATE "C" PRIMARY KEY,
    repository_id  bigint NOT NULL REFERENCES gateway.repositories,
    expires_at     timestamptz NOT NULL
);
CREATE INDEX repository_aliases_by_repository ON gateway.repository_aliases (repository_id);

-- A robot belongs to a namespace; a user to none.
ALTER TABLE gateway.principals
    ADD COLUMN namespace_id   bigint REFERENCES gateway.namespaces,
    ADD COLUMN display_name   text NOT NULL DEFAULT '',
    ADD COLUMN email          text NOT NULL DEFAULT '',
    ADD COLUMN description    text NOT NULL DEFAULT '',
    ADD COLUMN created_by     text,
    ADD COLUMN last_login_at  timestamptz,
    ADD COLUMN version        int NOT NULL DEFAULT 1;
CREATE INDEX robots_by_namespace ON gateway.principals (namespace_id, name) WHERE namespace_id IS NOT NULL;

-- Who a principal is at an OpenID provider.
CREATE TABLE gateway.external_identities (
    issuer        text NOT NULL,
    subject       text NOT NULL,
    principal_id  bigint NOT NULL REFERENCES gateway.principals ON DELETE CASCADE,
    linked_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (issuer, subject)
);
CREATE INDEX external_identities_by_principal ON gateway.external_identities (principal_id);

CREATE TABLE gateway.teams (
    id               bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name             text COLLATE "C" NOT NULL UNIQUE,
    description      text NOT NULL DEFAULT '',
    external_groups  text[] NOT NULL DEFAULT '{}',
    version          int NOT NULL DEFAULT 1,
    created_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    created_by       text
);
CREATE INDEX teams_by_group ON gateway.teams USING gin (external_groups);

-- source: who put the member there, and so who takes it away: a person, or the provider's groups at each login.
CREATE TABLE gateway.team_members (
    team_id       bigint NOT NULL REFERENCES gateway.teams ON DELETE CASCADE,
    principal_id  bigint NOT NULL REFERENCES gateway.principals ON DELETE CASCADE,
    role          text NOT NULL DEFAULT 'member' CHECK (role IN ('member', 'maintainer')),
    source        text NOT NULL DEFAULT 'manual' CHECK (source IN ('manual', 'oidc')),
    added_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    added_by      text,
    PRIMARY KEY (team_id, principal_id)
);
CREATE INDEX team_members_by_principal ON gateway.team_members (principal_id);

-- Secrets that programs log in with: random, so a plain SHA-256 keeps them. Revoked means: the row is gone.
-- credential_version: the password a refresh token was had for; parent_id: the access token it was had for.
CREATE TABLE gateway.credentials (
    id                  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    principal_id        bigint NOT NULL REFERENCES gateway.principals ON DELETE CASCADE,
    parent_id           bigint REFERENCES gateway.credentials ON DELETE CASCADE,
    kind                text NOT NULL CHECK (kind IN ('token', 'robot', 'refresh')),
    name                text NOT NULL DEFAULT '',
    hash                bytea NOT NULL UNIQUE,
    hint                text NOT NULL DEFAULT '',
    actions             text[],
    patterns            text[],
    credential_version  int,
    created_at          timestamptz NOT NULL DEFAULT clock_timestamp(),
    created_by          text,
    expires_at          timestamptz,
    last_used_at        timestamptz,
    last_used_address   text
) WITH (fillfactor = 80);
CREATE INDEX credentials_by_principal ON gateway.credentials (principal_id, kind);
CREATE INDEX credentials_by_parent ON gateway.credentials (parent_id) WHERE parent_id IS NOT NULL;
CREATE INDEX credentials_by_end ON gateway.credentials (expires_at) WHERE expires_at IS NOT NULL;

-- One right: somebody (a principal or a team), on something (a repository, a namespace, or a pattern of names), a role
-- (1 reader, 2 writer, 3 maintainer, 4 admin).
CREATE TABLE gateway.grants (
    id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    principal_id    bigint REFERENCES gateway.principals ON DELETE CASCADE,
    team_id         bigint REFERENCES gateway.teams ON DELETE CASCADE,
    repository_id   bigint REFERENCES gateway.repositories ON DELETE CASCADE,
    namespace_id    bigint REFERENCES gateway.namespaces ON DELETE CASCADE,
    pattern         text COLLATE "C",
    pattern_regex   text COLLATE "C",
    pattern_prefix  text COLLATE "C",
    role            smallint NOT NULL CHECK (role BETWEEN 1 AND 4),
    granted_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    granted_by      text,
    CONSTRAINT grants_one_subject CHECK (num_nonnulls(principal_id, team_id) = 1),
    CONSTRAINT grants_one_object CHECK (num_nonnulls(repository_id, namespace_id, pattern) = 1),
    CONSTRAINT grants_pattern_whole CHECK (
        (pattern IS NULL) = (pattern_regex IS NULL) AND (pattern IS NULL) = (pattern_prefix IS NULL)
    )
);
CREATE UNIQUE INDEX grants_once ON gateway.grants
    (principal_id, team_id, repository_id, namespace_id, pattern) NULLS NOT DISTINCT;
CREATE INDEX grants_to_principal ON gateway.grants (principal_id, repository_id) WHERE principal_id IS NOT NULL;
CREATE INDEX grants_to_team ON gateway.grants (team_id, repository_id) WHERE team_id IS NOT NULL;
CREATE INDEX grants_on_repository ON gateway.grants (repository_id) WHERE repository_id IS NOT NULL;
CREATE INDEX grants_on_namespace ON gateway.grants (namespace_id) WHERE namespace_id IS NOT NULL;
CREATE INDEX wide_grants_to_principal ON gateway.grants (principal_id)
    WHERE principal_id IS NOT NULL AND repository_id IS NULL;
CREATE INDEX wide_grants_to_team ON gateway.grants (team_id) WHERE team_id IS NOT NULL AND repository_id IS NULL;
CREATE INDEX grants_by_pattern ON gateway.grants (pattern) WHERE pattern IS NOT NULL;

-- Every grant that reaches a principal at a name: its own and its teams', on the repository, its namespace, or a pattern.
-- repository and namespace may be NULL where there is none (yet).
CREATE FUNCTION gateway.grants_at(p_principal bigint, p_repository bigint, p_namespace bigint, p_name text)
RETURNS SETOF gateway.grants LANGUAGE sql STABLE AS $$
    SELECT g.* FROM gateway.grants g
    WHERE g.principal_id = p_principal AND g.repository_id = p_repository
    UNION ALL
    SELECT g.* FROM gateway.grants g
    WHERE g.principal_id = p_principal AND g.repository_id IS NULL
      AND (g.namespace_id = p_namespace OR p_name ~ g.pattern_regex)
    UNION ALL
    SELECT g.* FROM gateway.team_members m JOIN gateway.grants g ON g.team_id = m.team_id
    WHERE m.principal_id = p_principal AND g.repository_id = p_repository
    UNION ALL
    SELECT g.* FROM gateway.team_members m JOIN gateway.grants g ON g.team_id = m.team_id
    WHERE m.principal_id = p_principal AND g.repository_id IS NULL
      AND (g.namespace_id = p_namespace OR p_name ~ g.pattern_regex)
$$;

-- Logins of browsers; the cookie's value is kept as a hash.
CREATE TABLE gateway.login_sessions (
    hash                bytea PRIMARY KEY,
    principal_id        bigint NOT NULL REFERENCES gateway.principals ON DELETE CASCADE,
    credential_version  int NOT NULL,
    created_at          timestamptz NOT NULL DEFAULT clock_timestamp(),
    last_seen_at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at          timestamptz NOT NULL,
    address             text,
    user_agent          text
);
CREATE INDEX login_sessions_by_principal ON gateway.login_sessions (principal_id);

-- What is known while somebody logs in at an OpenID provider, or a command line waits for a browser: used once, short-lived.
CREATE TABLE gateway.login_attempts (
    hash        bytea PRIMARY KEY,
    kind        text NOT NULL CHECK (kind IN ('oidc', 'cli')),
    sealed      bytea NOT NULL,
    expires_at  timestamptz NOT NULL
);

-- Tokens of CI systems that stand for a robot: who issued them, for whom, and what they must say.
CREATE TABLE gateway.trusts (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    robot_id    bigint NOT NULL REFERENCES gateway.principals ON DELETE CASCADE,
    name        text NOT NULL,
    issuer      text NOT NULL,
    audience    text NOT NULL,
    claims      jsonb NOT NULL,
    life_s      int NOT NULL CHECK (life_s BETWEEN 60 AND 43200),
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    created_by  text,
    UNIQUE (robot_id, name)
);
CREATE INDEX trusts_by_issuer ON gateway.trusts (issuer);

-- Failed logins by account and by address, so that guessing slows down on whichever gateway it is tried.
CREATE TABLE gateway.login_failures (
    key            text COLLATE "C" PRIMARY KEY,
    failures       int NOT NULL,
    since          timestamptz NOT NULL,
    blocked_until  timestamptz NOT NULL DEFAULT '-infinity'
) WITH (fillfactor = 50);

-- What was refused to somebody, gathered: one row stands for `count` of the same within a short while.
CREATE TABLE gateway.refusals (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    first_at    timestamptz NOT NULL,
    last_at     timestamptz NOT NULL,
    count       int NOT NULL,
    actor       text COLLATE "C" NOT NULL,
    address     text NOT NULL,
    action      text NOT NULL,
    target      text COLLATE "C" NOT NULL,
    reason      text NOT NULL,
    request_id  text NOT NULL
);
CREATE INDEX refusals_by_time ON gateway.refusals (last_at);
CREATE INDEX refusals_by_actor ON gateway.refusals (actor, last_at);
CREATE INDEX refusals_by_target ON gateway.refusals (target, last_at);

-- Answers to requests that create something, for those who send the same request again; sealed, as some hold a secret.
CREATE TABLE gateway.idempotent_answers (
    principal_id  bigint NOT NULL,
    key           text NOT NULL,
    request_hash  bytea NOT NULL,
    sealed        bytea,
    created_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (principal_id, key)
);
CREATE INDEX idempotent_answers_by_time ON gateway.idempotent_answers (created_at);

-- An upload may go on after the token that opened it has expired: with that very token.
ALTER TABLE gateway.uploads ADD COLUMN token_id text;

-- As before, with the address of whoever pushes. The form without it stays for the version still running.
-- The push of a manifest, whole: lock what it names, look whether all of it is there, write, and tell of it. One round trip, and
-- each statement in here sees what was committed before it began: what a lock waited for is seen by the look that follows.
-- Lock order as everywhere: repository, links, manifests, edges, tags, stream. Answers one row for each thing amiss ('gone',
-- 'missing', 'size'), and then has written nothing; else one row for each tag that was set.
CREATE FUNCTION gateway.push_manifest(
    p_guard bigint, p_repository_id bigint, p_digest text, p_media_type text, p_artifact_type text, p_image_id text,
    p_subject_digest text, p_tree_size_bytes bigint, p_os text, p_architecture text, p_variant text, p_body bytea,
    p_annotations json, p_lease interval, p_actor text, p_blobs text[], p_blob_sizes bigint[], p_children text[],
    p_child_sizes bigint[], p_tags text[], p_stream text, p_event_ids uuid[], p_event_types text[], p_event_subjects text[],
    p_event_data text[], p_source text, p_event_actor text, p_request_id text,
    p_address text
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
        p_stream, p_event_ids, p_event_types, p_event_subjects, p_event_data, p_source, p_event_actor, p_request_id,
        p_address
    );
    RETURN QUERY SELECT 'tag', tag, NULL::text FROM unnest(p_tags) tag;
END
$$;
"""
