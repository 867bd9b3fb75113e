-- name: insert_upload
INSERT INTO gateway.uploads (id, repository_id, principal, storage_key, algorithm, lease_token, lease_until, token_id, opened)
VALUES (
    $1, $2, $3, $4, $5, $6, CASE WHEN $6::uuid IS NULL THEN '-infinity' ELSE clock_timestamp() + $7::interval END, $8, false
)

-- name: find_upload
SELECT id, storage_key, algorithm, offset_bytes, digest_so_far, writer_state, content, created_at
FROM gateway.uploads
WHERE id = $1 AND repository_id = $2 AND principal = $3

-- name: find_upload_by_token
-- A session that may go on although the token that opened it has expired: with that token, up to an age.
SELECT id FROM gateway.uploads
WHERE id = $1 AND principal = $2 AND token_id = $3 AND created_at > clock_timestamp() - $4::interval

-- name: lease_upload
-- The caller becomes the session's only writer; a lease that nobody renews ends by itself. A token that is still there is one of
-- a writer who did not say that it left the object alone.
UPDATE gateway.uploads
SET lease_token = $4, lease_until = clock_timestamp() + $5::interval, touched_at = clock_timestamp(),
    opened = opened OR lease_token IS NOT NULL
WHERE id = $1 AND repository_id = $2 AND principal = $3 AND lease_until < clock_timestamp()
RETURNING id, storage_key, algorithm, offset_bytes, digest_so_far, writer_state, content, created_at

-- name: renew_upload_lease
UPDATE gateway.uploads
SET lease_until = clock_timestamp() + $3::interval, touched_at = clock_timestamp()
WHERE id = $1 AND lease_token = $2
RETURNING id

-- name: release_upload
UPDATE gateway.uploads SET lease_until = '-infinity' WHERE id = $1 AND lease_token = $2

-- name: advance_upload
-- With $6 the bytes are here, and this writer left the object alone: its token goes.
UPDATE gateway.uploads
SET offset_bytes = $3, digest_so_far = $4, writer_state = $5, content = $6,
    lease_token = CASE WHEN $6::bytea IS NULL THEN lease_token END, lease_until = '-infinity', touched_at = clock_timestamp()
WHERE id = $1 AND lease_token = $2
RETURNING id

-- name: commit_blob
-- The session becomes a blob and its link, in one statement. The first committed key of a digest stays; the loser's key, and the
-- key of a blob found bad, go to the reclaim list. No row from `session`: another writer has taken over. Without a lease token:
-- the whole blob came in one request, so nobody may have written to the session before.
WITH session AS (
    DELETE FROM gateway.uploads
    WHERE id = $1 AND (
        lease_token = $2
        OR ($2::uuid IS NULL AND repository_id = $6 AND principal = $7 AND offset_bytes = 0 AND lease_until < clock_timestamp())
    )
    RETURNING repository_id, storage_key
), replaced AS (
    SELECT storage_key FROM gateway.blobs WHERE digest = $3 AND quarantined_at IS NOT NULL AND storage_key <> ''
), blob AS (
    INSERT INTO gateway.blobs (digest, size_bytes, storage_key)
    SELECT $3, $4, storage_key FROM session
    ON CONFLICT (digest) DO UPDATE
    SET size_bytes = EXCLUDED.size_bytes, storage_key = EXCLUDED.storage_key, content = NULL, quarantined_at = NULL
    WHERE blobs.quarantined_at IS NOT NULL
    RETURNING storage_key
), reclaimed AS (
    INSERT INTO gateway.reclaim (storage_key)
    SELECT storage_key FROM session WHERE NOT EXISTS (SELECT FROM blob)
    UNION ALL
    SELECT storage_key FROM replaced WHERE EXISTS (SELECT FROM blob)
    ON CONFLICT DO NOTHING
), link AS (
    INSERT INTO gateway.repository_blobs (repository_id, digest, lease_until)
    SELECT repository_id, $3, clock_timestamp() + 2 * $5::interval FROM session
    ON CONFLICT (repository_id, digest) DO UPDATE
    SET lease_until = greatest(repository_blobs.lease_until, EXCLUDED.lease_until), hidden_at = NULL
    RETURNING digest
)
SELECT EXISTS (SELECT FROM session) AS owned, (SELECT count(*) FROM link) AS linked, EXISTS (SELECT FROM blob) AS first

-- name: commit_small_blob
-- As commit_blob, but the blob becomes a row: $4 are its bytes, or NULL: the session has them all. What a writer before may have
-- left under the session's key is not needed. Without a lease token: nothing came before, or nothing since. $1 NULL: there never
-- was a session.
WITH session AS (
    DELETE FROM gateway.uploads
    WHERE id = $1 AND (
        lease_token = $2
        OR ($2::uuid IS NULL AND repository_id = $6 AND principal = $7 AND lease_until < clock_timestamp()
            AND CASE WHEN $4::bytea IS NULL THEN content IS NOT NULL AND digest_so_far = $3 ELSE offset_bytes = 0 END)
    )
    RETURNING repository_id, coalesce($4, content) AS content, storage_key, writer_state,
        opened OR lease_token IS DISTINCT FROM $2 AS opened
), pushed AS (
    SELECT repository_id, content FROM session
    UNION ALL
    SELECT $6, $4 WHERE $1::uuid IS NULL
), replaced AS (
    SELECT storage_key FROM gateway.blobs WHERE digest = $3 AND quarantined_at IS NOT NULL AND storage_key <> ''
), blob AS (
    INSERT INTO gateway.blobs (digest, size_bytes, storage_key, content)
    SELECT $3, octet_length(content), '', content FROM pushed
    ON CONFLICT (digest) DO UPDATE
    SET size_bytes = EXCLUDED.size_bytes, storage_key = '', content = EXCLUDED.content, quarantined_at = NULL
    WHERE blobs.quarantined_at IS NOT NULL
    RETURNING digest
), reclaimed AS (
    INSERT INTO gateway.reclaim (storage_key, unfinished, writer_state)
    SELECT storage_key, true, writer_state FROM session WHERE opened
    UNION ALL
    SELECT storage_key, false, NULL FROM replaced WHERE EXISTS (SELECT FROM blob)
    ON CONFLICT DO NOTHING
), link AS (
    INSERT INTO gateway.repository_blobs (repository_id, digest, lease_until)
    SELECT repository_id, $3, clock_timestamp() + 2 * $5::interval FROM pushed
    ON CONFLICT (repository_id, digest) DO UPDATE
    SET lease_until = greatest(repository_blobs.lease_until, EXCLUDED.lease_until), hidden_at = NULL
    RETURNING digest
)
SELECT EXISTS (SELECT FROM pushed) AS owned, (SELECT count(*) FROM link) AS linked, EXISTS (SELECT FROM blob) AS first

-- name: end_upload
-- The session ends without a blob: what it left in storage goes to the reclaim list.
WITH session AS (
    DELETE FROM gateway.uploads
    WHERE id = $1 AND repository_id = $2 AND principal = $3
      AND (lease_until < clock_timestamp() OR lease_token IS NOT DISTINCT FROM $4)
    RETURNING storage_key, writer_state
), reclaimed AS (
    INSERT INTO gateway.reclaim (storage_key, unfinished, writer_state)
    SELECT storage_key, true, writer_state FROM session
    ON CONFLICT DO NOTHING
)
SELECT storage_key FROM session

-- name: reap_uploads
WITH idle AS (
    SELECT id FROM gateway.uploads
    WHERE touched_at < clock_timestamp() - $1::interval AND lease_until < clock_timestamp()
    ORDER BY touched_at LIMIT $2
    FOR UPDATE SKIP LOCKED
), session AS (
    DELETE FROM gateway.uploads u USING idle WHERE u.id = idle.id
    RETURNING u.storage_key, u.writer_state
), reclaimed AS (
    INSERT INTO gateway.reclaim (storage_key, unfinished, writer_state)
    SELECT storage_key, true, writer_state FROM session
    ON CONFLICT DO NOTHING
)
SELECT count(*) FROM session
