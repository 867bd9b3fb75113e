-- name: find_page
-- Newest push first, after the cursor ($2, $3): at most $4 images with at most $5 bytes of documents behind them (but
-- always one image), so that no answer grows without bound. `available` counts the images before that cut.
WITH page AS (
    SELECT id, pushed_at, digest, document_bytes FROM metadata.manifests
    WHERE repository_id = $1 AND top_level AND (pushed_at, digest) < ($2::timestamptz, $3::text)
    ORDER BY pushed_at DESC, digest DESC LIMIT $4
), weighed AS (
    SELECT id, row_number() OVER newest AS place, sum(document_bytes) OVER newest AS weight, count(*) OVER () AS available
    FROM page WINDOW newest AS (ORDER BY pushed_at DESC, digest DESC)
)
SELECT id, available FROM weighed WHERE weight <= $5 OR place = 1 ORDER BY place

-- name: find_by_tag
SELECT m.id FROM metadata.tags t JOIN metadata.manifests m USING (repository_id, digest)
WHERE t.repository_id = $1 AND t.name = $2

-- name: find_by_digest
-- A manifest's own digest first; else the newest of the manifests with this config.
SELECT id FROM (
    SELECT id, 1 AS rank, pushed_at FROM metadata.manifests WHERE repository_id = $1 AND digest = $2
    UNION ALL
    SELECT id, 2, pushed_at FROM metadata.manifests WHERE repository_id = $1 AND image_id = $2
) AS found
ORDER BY rank, pushed_at DESC LIMIT 1

-- name: find_children
-- The children of an index that are indexed themselves, as long as $3 bytes of documents are not exceeded.
WITH indexed AS (
    SELECT min(c.position) AS position, m.id, m.document_bytes
    FROM metadata.manifests parent
    JOIN metadata.children c ON c.manifest_id = parent.id
    JOIN metadata.manifests m ON m.repository_id = c.repository_id AND m.digest = c.digest
    WHERE parent.repository_id = $1 AND parent.digest = $2 GROUP BY m.id, m.document_bytes
), weighed AS (
    SELECT id, sum(document_bytes) OVER (ORDER BY position) AS weight FROM indexed
)
SELECT id FROM weighed WHERE weight <= $3

-- name: load_images
-- $2 bounds the tags told of each image; $3: config and annotations too.
SELECT m.id, m.digest, m.kind, m.media_type, m.artifact_type, m.subject, m.image_id, m.os, m.architecture, m.variant,
       m.created_at, m.pushed_at, m.pushed_by, m.size_bytes, m.history, m.problem,
       CASE WHEN $3::boolean THEN m.config END AS config,
       CASE WHEN $3::boolean THEN m.annotations ELSE '{}' END AS annotations,
       ARRAY(SELECT t.name FROM metadata.tags t WHERE t.repository_id = m.repository_id AND t.digest = m.digest
             ORDER BY t.updated_at DESC, t.name LIMIT $2) AS tags,
       (SELECT coalesce(jsonb_agg(to_jsonb(l) ORDER BY l.position), '[]')
        FROM metadata.layers l WHERE l.manifest_id = m.id) AS layers,
       (SELECT coalesce(jsonb_agg(jsonb_build_object(
            'position', c.position, 'digest', c.digest, 'media_type', c.media_type, 'attests', c.attests,
            'kind', CASE WHEN c.kind IN ('attestation', 'blob') THEN c.kind ELSE coalesce(i.kind, c.kind) END,
            'size_bytes', coalesce(i.size_bytes, c.size_bytes),
            'artifact_type', coalesce(c.artifact_type, i.artifact_type),
            'image_id', i.image_id,
            'os', coalesce(c.os, i.os), 'architecture', coalesce(c.architecture, i.architecture),
            'variant', CASE WHEN c.os IS NULL THEN i.variant ELSE c.variant END) ORDER BY c.position), '[]')
        FROM metadata.children c
        LEFT JOIN metadata.manifests i ON i.repository_id = c.repository_id AND i.digest = c.digest
        WHERE c.manifest_id = m.id) AS children
FROM unnest($1::bigint[]) WITH ORDINALITY AS wanted (id, place)
JOIN metadata.manifests m USING (id)
ORDER BY wanted.place
