-- name: begin_idempotent
INSERT INTO gateway.idempotent_answers AS a (principal_id, key, request_hash) VALUES ($1, $2, $3)
ON CONFLICT (principal_id, key) DO UPDATE SET request_hash = EXCLUDED.request_hash, created_at = clock_timestamp()
WHERE a.sealed IS NULL AND a.created_at < clock_timestamp() - $4::interval
RETURNING key

-- name: find_idempotent
SELECT request_hash, sealed FROM gateway.idempotent_answers WHERE principal_id = $1 AND key = $2

-- name: keep_idempotent
UPDATE gateway.idempotent_answers SET sealed = $3 WHERE principal_id = $1 AND key = $2

-- name: forget_idempotent
DELETE FROM gateway.idempotent_answers WHERE principal_id = $1 AND key = $2 AND sealed IS NULL

-- name: trim_idempotent
DELETE FROM gateway.idempotent_answers WHERE created_at < clock_timestamp() - $1::interval
