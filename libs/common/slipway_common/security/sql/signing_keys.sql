-- name: lock_purpose
SELECT pg_advisory_xact_lock(hashtext('slipway signing keys'), hashtext($1))

-- name: list_keys
SELECT kid, private_key, created_at, clock_timestamp() - created_at AS age
FROM keys.signing_keys
WHERE purpose = $1
ORDER BY created_at DESC, kid

-- name: insert_key
INSERT INTO keys.signing_keys (kid, purpose, private_key) VALUES ($1, $2, $3)

-- name: delete_keys
DELETE FROM keys.signing_keys WHERE purpose = $1 AND created_at < clock_timestamp() - $2::interval
