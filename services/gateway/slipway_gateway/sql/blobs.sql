-- name: find_blob
SELECT b.size_bytes, b.storage_key, b.created_at, b.content
FROM gateway.repository_blobs l
JOIN gateway.blobs b USING (digest)
WHERE l.repository_id = $1 AND l.digest = $2 AND l.hidden_at IS NULL AND b.quarantined_at IS NULL

-- name: find_contents
-- Of these blobs those that are rows, whole.
SELECT b.digest, b.content
FROM gateway.repository_blobs l
JOIN gateway.blobs b USING (digest)
WHERE l.repository_id = $1 AND l.digest = ANY ($2) AND l.hidden_at IS NULL AND b.quarantined_at IS NULL
  AND b.content IS NOT NULL

-- name: renew_blob_lease
-- At most one write in a lease's length: only when less than one length is left.
UPDATE gateway.repository_blobs
SET lease_until = clock_timestamp() + 2 * $3::interval
WHERE repository_id = $1 AND digest = $2 AND hidden_at IS NULL AND lease_until < clock_timestamp() + $3::interval

-- name: renew_manifest_lease
UPDATE gateway.manifests
SET lease_until = clock_timestamp() + 2 * $3::interval
WHERE repository_id = $1 AND digest = $2 AND deleted_at IS NULL AND lease_until < clock_timestamp() + $3::interval

-- name: mount_blob
-- Links a blob of another repository; nothing if that repository does not have it. A row that was there is revived.
INSERT INTO gateway.repository_blobs (repository_id, digest, lease_until)
SELECT $1, s.digest, clock_timestamp() + 2 * $4::interval
FROM gateway.repository_blobs s
JOIN gateway.blobs b USING (digest)
WHERE s.repository_id = $2 AND s.digest = $3 AND s.hidden_at IS NULL AND b.quarantined_at IS NULL
ON CONFLICT (repository_id, digest) DO UPDATE
SET lease_until = greatest(repository_blobs.lease_until, EXCLUDED.lease_until), hidden_at = NULL
RETURNING digest

-- name: find_mountable
-- A repository that the caller ($2) may read and that has the blob, for a mount that names no source; public ones first. $4: patterns
-- that the credential is bounded to; $5: names that the token covers. Only so many are looked at: what is missed is uploaded, and
-- how long it takes says nothing of how many there are.
WITH holders AS (
    (
        SELECT l.repository_id FROM gateway.repository_blobs l
        WHERE $5::text[] IS NULL AND l.digest = $1 AND l.hidden_at IS NULL
        ORDER BY l.repository_id LIMIT 200
    )
    UNION ALL
    SELECT l.repository_id
    FROM gateway.repositories r CROSS JOIN LATERAL (
        SELECT l.repository_id FROM gateway.repository_blobs l
        WHERE l.repository_id = r.id AND l.digest = $1 AND l.hidden_at IS NULL LIMIT 1
    ) l
    WHERE r.name = ANY ($5) AND r.deleted_at IS NULL
)
SELECT r.id
FROM (
    SELECT r.id, r.name, r.namespace_id, r.visibility
    FROM holders h JOIN gateway.repositories r ON r.id = h.repository_id AND r.deleted_at IS NULL
    WHERE EXISTS (SELECT FROM gateway.blobs b WHERE b.digest = $1 AND b.quarantined_at IS NULL)
    ORDER BY r.visibility DESC, r.id
    LIMIT 50
) r
WHERE r.visibility = 'public'
   OR (($3 OR EXISTS (SELECT FROM gateway.grants_at($2, r.id, r.namespace_id, r.name)))
       AND ($4::text[] IS NULL OR r.name ~ ANY ($4)))
LIMIT 1

-- name: lock_link
SELECT digest FROM gateway.repository_blobs WHERE repository_id = $1 AND digest = $2 AND hidden_at IS NULL FOR UPDATE

-- name: count_edges
SELECT count(*) FILTER (WHERE m.deleted_at IS NULL) AS living, count(*) AS all
FROM gateway.manifest_blobs e
JOIN gateway.manifests m ON m.repository_id = e.repository_id AND m.digest = e.manifest_digest
WHERE e.repository_id = $1 AND e.blob_digest = $2

-- name: hide_link
UPDATE gateway.repository_blobs SET hidden_at = clock_timestamp(), lease_until = '-infinity'
WHERE repository_id = $1 AND digest = $2

-- name: delete_link
DELETE FROM gateway.repository_blobs WHERE repository_id = $1 AND digest = $2

-- name: lock_blob
SELECT digest FROM gateway.blobs WHERE digest = $1 FOR UPDATE

-- name: delete_unlinked_blob
-- In a statement of its own, after the lock: a wait for the lock does not look at the links again. A blob that is a row itself
-- leaves nothing behind.
WITH gone AS (
    DELETE FROM gateway.blobs
    WHERE digest = $1 AND NOT EXISTS (SELECT FROM gateway.repository_blobs l WHERE l.digest = $1)
    RETURNING storage_key
)
INSERT INTO gateway.reclaim (storage_key) SELECT storage_key FROM gone WHERE storage_key <> ''

-- name: take_reclaimable
SELECT storage_key, unfinished, writer_state
FROM gateway.reclaim
WHERE not_before < clock_timestamp()
ORDER BY not_before
LIMIT $1
FOR UPDATE SKIP LOCKED

-- name: postpone_reclaimable
UPDATE gateway.reclaim SET not_before = clock_timestamp() + $2::interval WHERE storage_key = ANY ($1)

-- name: delete_reclaimed
DELETE FROM gateway.reclaim WHERE storage_key = ANY ($1)
