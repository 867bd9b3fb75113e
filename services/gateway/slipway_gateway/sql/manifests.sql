-- name: find_manifest_by_digest
SELECT digest, media_type, body, subject_digest
FROM gateway.manifests
WHERE repository_id = $1 AND digest = $2 AND deleted_at IS NULL

-- name: find_manifest_by_tag
SELECT m.digest, m.media_type, m.body, m.subject_digest
FROM gateway.tags t
JOIN gateway.manifests m ON m.repository_id = t.repository_id AND m.digest = t.digest
WHERE t.repository_id = $1 AND t.name = $2 AND m.deleted_at IS NULL

-- name: read_children
-- Facts of content that never changes; whether it is still here is looked at again under lock, by push_manifest.
SELECT digest, image_id, octet_length(body) AS size_bytes, tree_size_bytes, os, architecture, variant
FROM gateway.manifests
WHERE repository_id = $1 AND digest = ANY ($2) AND deleted_at IS NULL

-- name: push_manifest
SELECT kind, name, detail
FROM gateway.push_manifest(
    $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26,
    $27, $28, $29
)

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
-- At most $5 of them, and no more than weigh $6 bytes (but one at the least): annotations are as long as manifests may be.
SELECT digest, media_type, artifact_type, size_bytes, annotations, found
FROM (
    SELECT page.*, sum(size_bytes) OVER (ORDER BY digest) AS so_far, count(*) OVER () AS found
    FROM (
        SELECT digest, media_type, artifact_type, octet_length(body) AS size_bytes, annotations
        FROM gateway.manifests
        WHERE repository_id = $1 AND subject_digest = $2 AND deleted_at IS NULL AND digest > $3
          AND ($4::text IS NULL OR artifact_type = $4)
        ORDER BY digest
        LIMIT $5
    ) page
) weighed
WHERE so_far <= $6 OR so_far = size_bytes
ORDER BY digest

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
