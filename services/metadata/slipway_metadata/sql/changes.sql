-- name: keep_repository
INSERT INTO metadata.repositories AS r (id, name) VALUES ($1, $2)
ON CONFLICT (id) DO UPDATE SET name = excluded.name WHERE r.name <> excluded.name

-- name: delete_repository
DELETE FROM metadata.repositories WHERE id = $1

-- name: list_repositories
SELECT id FROM metadata.repositories

-- name: clear_manifests
DELETE FROM metadata.manifests WHERE repository_id = $1

-- name: clear_tags
DELETE FROM metadata.tags WHERE repository_id = $1

-- name: find_touched
-- Whose place on the top level may change when these manifests go and these tags move.
SELECT c.digest FROM metadata.manifests m JOIN metadata.children c ON c.manifest_id = m.id
WHERE m.repository_id = $1 AND m.digest = ANY ($2::text[])
UNION
SELECT digest FROM metadata.tags WHERE repository_id = $1 AND name = ANY ($3::text[])

-- name: delete_manifests
DELETE FROM metadata.manifests WHERE repository_id = $1 AND digest = ANY ($2::text[])

-- name: delete_tags_of
DELETE FROM metadata.tags WHERE repository_id = $1 AND digest = ANY ($2::text[])

-- name: delete_tags
DELETE FROM metadata.tags WHERE repository_id = $1 AND name = ANY ($2::text[])

-- name: set_tags
INSERT INTO metadata.tags (repository_id, name, digest, updated_at)
SELECT $1, tag.* FROM unnest($2::text[], $3::text[], $4::timestamptz[]) AS tag (name, digest, updated_at)
ON CONFLICT (repository_id, name) DO UPDATE SET digest = excluded.digest, updated_at = excluded.updated_at

-- name: write_manifests
-- $2 is a JSON list of described manifests, each digest once. All of a row is written again: an earlier reading may have
-- lacked the config.
INSERT INTO metadata.manifests (
    repository_id, digest, kind, media_type, artifact_type, subject, image_id, os, architecture, variant, created_at,
    pushed_at, pushed_by, manifest_bytes, config_digest, config_bytes, document_bytes, size_bytes, top_level,
    config, annotations, history, problem)
SELECT $1, d.digest, d.kind, d.media_type, d.artifact_type, d.subject, d.image_id,
       d.platform ->> 'os', d.platform ->> 'architecture', d.platform ->> 'variant', d.created_at,
       d.pushed_at, d.pushed_by, d.manifest_bytes, d.config_digest, d.config_bytes, d.document_bytes, d.manifest_bytes, true,
       nullif(d.config, 'null'), coalesce(nullif(d.annotations, 'null'), '{}'), d.history, d.problem
FROM jsonb_to_recordset($2::jsonb) AS d (
    digest text, kind text, media_type text, artifact_type text, subject text, image_id text, platform jsonb,
    created_at timestamptz, pushed_at timestamptz, pushed_by text, manifest_bytes bigint, config_digest text,
    config_bytes bigint, document_bytes bigint, config jsonb, annotations jsonb, history jsonb, problem text)
ON CONFLICT (repository_id, digest) DO UPDATE SET
    kind = excluded.kind, media_type = excluded.media_type, artifact_type = excluded.artifact_type,
    subject = excluded.subject, image_id = excluded.image_id, os = excluded.os, architecture = excluded.architecture,
    variant = excluded.variant, created_at = excluded.created_at, pushed_at = excluded.pushed_at,
    pushed_by = excluded.pushed_by, document_bytes = excluded.document_bytes, config = excluded.config,
    annotations = excluded.annotations, history = excluded.history, problem = excluded.problem
RETURNING id, (xmax = 0) AS is_new

-- name: write_layers
-- What a manifest lists never changes; what its config says of a layer may be read at a later push only.
INSERT INTO metadata.layers AS known (manifest_id, position, digest, size_bytes, media_type, diff_id)
SELECT m.id, l.position, l.digest, l.size_bytes, l.media_type, l.diff_id
FROM jsonb_to_recordset($2::jsonb) AS d (digest text, layers jsonb)
JOIN metadata.manifests m ON m.repository_id = $1 AND m.digest = d.digest
CROSS JOIN jsonb_to_recordset(d.layers)
    AS l (position integer, digest text, size_bytes bigint, media_type text, diff_id text)
ON CONFLICT (manifest_id, position) DO UPDATE SET diff_id = excluded.diff_id
WHERE known.diff_id IS DISTINCT FROM excluded.diff_id

-- name: write_children
INSERT INTO metadata.children (
    manifest_id, position, repository_id, digest, size_bytes, media_type, kind, artifact_type, os, architecture, variant,
    annotations, attests)
SELECT m.id, c.position, $1, c.digest, c.size_bytes, c.media_type, c.kind, c.artifact_type,
       c.platform ->> 'os', c.platform ->> 'architecture', c.platform ->> 'variant', c.annotations, c.attests
FROM jsonb_to_recordset($2::jsonb) AS d (digest text, children jsonb)
JOIN metadata.manifests m ON m.repository_id = $1 AND m.digest = d.digest
CROSS JOIN jsonb_to_recordset(d.children) AS c (
    position integer, digest text, size_bytes bigint, media_type text, kind text, artifact_type text, platform jsonb,
    annotations jsonb, attests text)
ON CONFLICT (manifest_id, position) DO NOTHING

-- name: measure
-- The tree sizes of new manifests and of every index above them: manifests, configs and layers, each digest once.
WITH RECURSIVE outdated (id, digest) AS (
    SELECT id, digest FROM metadata.manifests WHERE id = ANY ($2::bigint[])
    UNION
    SELECT parent.id, parent.digest
    FROM outdated o
    JOIN metadata.children c ON c.repository_id = $1 AND c.digest = o.digest
    JOIN metadata.manifests parent ON parent.id = c.manifest_id
), tree (root, id) AS (
    SELECT id, id FROM outdated
    UNION
    SELECT t.root, m.id
    FROM tree t
    JOIN metadata.children c ON c.manifest_id = t.id
    JOIN metadata.manifests m ON m.repository_id = $1 AND m.digest = c.digest
), parts (root, digest, size_bytes) AS (
    SELECT t.root, m.digest, m.manifest_bytes FROM tree t JOIN metadata.manifests m USING (id)
    UNION ALL
    SELECT t.root, m.config_digest, m.config_bytes FROM tree t JOIN metadata.manifests m USING (id)
    WHERE m.config_digest IS NOT NULL
    UNION ALL
    SELECT t.root, l.digest, l.size_bytes FROM tree t JOIN metadata.layers l ON l.manifest_id = t.id
    UNION ALL
    SELECT t.root, c.digest, c.size_bytes FROM tree t JOIN metadata.children c ON c.manifest_id = t.id
), distinct_parts AS (
    SELECT root, digest, max(size_bytes) AS size_bytes FROM parts GROUP BY root, digest
), sizes AS (
    -- Descriptors may claim anything up to 2^63 - 1 each.
    SELECT root, least(sum(size_bytes), 9223372036854775807)::bigint AS size_bytes FROM distinct_parts GROUP BY root
)
UPDATE metadata.manifests m SET size_bytes = sizes.size_bytes
FROM sizes WHERE m.id = sizes.root AND m.size_bytes <> sizes.size_bytes

-- name: place
-- Decide the top level anew for the digests $2, the manifests $3 and their children.
UPDATE metadata.manifests m SET top_level = placed.top_level
FROM (
    SELECT id, EXISTS (SELECT FROM metadata.tags t WHERE t.repository_id = $1 AND t.digest = c.digest)
            OR NOT EXISTS (SELECT FROM metadata.children e WHERE e.repository_id = $1 AND e.digest = c.digest)
    FROM metadata.manifests c
    WHERE repository_id = $1 AND digest IN (
        SELECT unnest($2::text[])
        UNION SELECT digest FROM metadata.manifests WHERE id = ANY ($3::bigint[])
        UNION SELECT digest FROM metadata.children WHERE manifest_id = ANY ($3::bigint[]))
) AS placed (id, top_level)
WHERE m.id = placed.id AND m.top_level <> placed.top_level
