-- name: find_manifest_by_digest
SELECT digest, media_type, body, subject_digest
FROM gateway.manifests
WHERE repository_id = $1 AND digest = $2 AND deleted_at IS NULL

-- name: find_manifest_by_tag
SELECT m.digest, m.media_type, m.body, m.subject_digest
FROM gateway.tags t
JOIN gateway.manifests m ON m.repository_id = t.repository_id AND m.digest = t.digest
WHERE t.repository_id = $1 AND t.name = $2 AND m.deleted_at IS NULL

-- name: lock_for_push
-- Keep what a manifest names from going away, and read it, in the order that every transaction keeps: repository, links,
-- children. Each condition is on the very row that is locked: after a wait PostgreSQL checks those again on the newest row, which
-- it would not do for rows that are merely joined. Deleters lock the same rows FOR UPDATE before they look for edges.
WITH repository AS MATERIALIZED (
    SELECT id FROM gateway.repositories WHERE id = $1 AND deleted_at IS NULL FOR KEY SHARE
), links AS MATERIALIZED (
    SELECT digest FROM gateway.repository_blobs
    WHERE repository_id = (SELECT id FROM repository) AND digest = ANY ($2) AND hidden_at IS NULL
    ORDER BY digest FOR KEY SHARE
), children AS MATERIALIZED (
    SELECT digest, image_id, octet_length(body) AS size_bytes, tree_size_bytes, os, architecture, variant
    FROM gateway.manifests
    WHERE repository_id = $1 AND digest = ANY ($3) AND deleted_at IS NULL AND (SELECT count(*) FROM links) >= 0
    ORDER BY digest FOR KEY SHARE
)
SELECT 'repository' AS kind, NULL AS digest, NULL AS image_id, NULL::bigint AS size_bytes, NULL::bigint AS tree_size_bytes,
    NULL AS os, NULL AS architecture, NULL AS variant
FROM repository
UNION ALL
SELECT 'blob', b.digest, NULL, b.size_bytes, NULL, NULL, NULL, NULL
FROM links JOIN gateway.blobs b USING (digest) WHERE b.quarantined_at IS NULL
UNION ALL
SELECT 'child', digest, image_id, size_bytes, tree_size_bytes, os, architecture, variant FROM children

-- name: write_manifest
WITH manifest AS (
    INSERT INTO gateway.manifests (
        repository_id, digest, media_type, artifact_type, image_id, subject_digest, tree_size_bytes, os, architecture, variant,
        body, annotations, lease_until, pushed_by
    )
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, clock_timestamp() + 2 * $13::interval, $14)
    ON CONFLICT (repository_id, digest) DO UPDATE
    SET media_type = EXCLUDED.media_type, deleted_at = NULL, lease_until = EXCLUDED.lease_until,
        pushed_at = clock_timestamp(), pushed_by = EXCLUDED.pushed_by
    RETURNING repository_id, digest
), blob_edges AS (
    INSERT INTO gateway.manifest_blobs (repository_id, manifest_digest, blob_digest)
    SELECT m.repository_id, m.digest, b FROM manifest m, unnest($15::text[]) b
    ON CONFLICT DO NOTHING
), child_edges AS (
    INSERT INTO gateway.manifest_children (repository_id, parent_digest, child_digest)
    SELECT m.repository_id, m.digest, c FROM manifest m, unnest($16::text[]) c
    ON CONFLICT DO NOTHING
), tagged AS (
    INSERT INTO gateway.tags (repository_id, name, digest, updated_by)
    SELECT m.repository_id, t, m.digest, $14 FROM manifest m, unnest($17::text[]) t ORDER BY t
    ON CONFLICT (repository_id, name) DO UPDATE
    SET previous_digest = tags.digest, digest = EXCLUDED.digest, updated_at = clock_timestamp(),
        updated_by = EXCLUDED.updated_by
    RETURNING repository_id, name, digest, previous_digest
), history AS (
    INSERT INTO gateway.tag_history (repository_id, tag, digest, actor)
    SELECT repository_id, name, digest, $14 FROM tagged
)
SELECT name, previous_digest FROM tagged

-- name: lock_repository_shared
SELECT id FROM gateway.repositories WHERE id = $1 AND deleted_at IS NULL FOR KEY SHARE

-- name: lock_manifest
SELECT digest FROM gateway.manifests WHERE repository_id = $1 AND digest = $2 FOR UPDATE

-- name: read_manifest_uses
-- After the lock, in a statement of its own.
SELECT m.digest,
    ARRAY (
        SELECT e.parent_digest FROM gateway.manifest_children e
        JOIN gateway.manifests p ON p.repository_id = e.repository_id AND p.digest = e.parent_digest
        WHERE e.repository_id = $1 AND e.child_digest = $2 AND p.deleted_at IS NULL
        ORDER BY 1 LIMIT 5
    ) AS parents
FROM gateway.manifests m
WHERE m.repository_id = $1 AND m.digest = $2 AND m.deleted_at IS NULL

-- name: delete_tags_of
WITH gone AS (
    DELETE FROM gateway.tags WHERE repository_id = $1 AND digest = $2 RETURNING repository_id, name
), history AS (
    INSERT INTO gateway.tag_history (repository_id, tag, digest, actor) SELECT repository_id, name, NULL, $3 FROM gone
)
SELECT name FROM gone ORDER BY name

-- name: trash_manifest
UPDATE gateway.manifests SET deleted_at = clock_timestamp(), lease_until = '-infinity'
WHERE repository_id = $1 AND digest = $2

-- name: delete_tag
WITH gone AS (
    DELETE FROM gateway.tags WHERE repository_id = $1 AND name = $2 RETURNING repository_id, name, digest
), history AS (
    INSERT INTO gateway.tag_history (repository_id, tag, digest, actor) SELECT repository_id, name, NULL, $3 FROM gone
)
SELECT digest FROM gone

-- name: list_referrers
SELECT digest, media_type, artifact_type, octet_length(body) AS size_bytes, annotations
FROM gateway.manifests
WHERE repository_id = $1 AND subject_digest = $2 AND deleted_at IS NULL AND digest > $3
  AND ($4::text IS NULL OR artifact_type = $4)
ORDER BY digest
LIMIT $5

-- name: snapshot_manifests
SELECT digest, media_type, artifact_type, subject_digest, octet_length(body) AS size_bytes, pushed_at, pushed_by
FROM gateway.manifests
WHERE repository_id = $1 AND deleted_at IS NULL AND digest > $2
ORDER BY digest
LIMIT $3

-- name: snapshot_tags
SELECT name, digest, updated_at FROM gateway.tags WHERE repository_id = $1 ORDER BY name

-- name: tags_of
SELECT name FROM gateway.tags WHERE repository_id = $1 AND digest = $2 ORDER BY name

-- name: find_small_manifests
SELECT digest, media_type, body, image_id
FROM gateway.manifests
WHERE repository_id = $1 AND digest = ANY ($2) AND deleted_at IS NULL AND octet_length(body) <= $3
