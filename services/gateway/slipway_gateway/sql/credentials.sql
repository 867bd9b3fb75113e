-- name: lock_principal
SELECT id FROM gateway.principals WHERE id = $1 FOR UPDATE

-- name: count_credentials
-- Those that a CI system gets for its own token come and go by themselves.
SELECT count(*) FROM gateway.credentials
WHERE principal_id = $1 AND kind = $2 AND name NOT LIKE 'trust:%' AND (expires_at IS NULL OR expires_at > clock_timestamp())

-- name: insert_credential
INSERT INTO gateway.credentials (principal_id, kind, name, hash, hint, actions, patterns, expires_at, created_by)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
RETURNING id, kind, name, hint, actions, patterns, created_at, created_by, expires_at, last_used_at, last_used_address

-- name: insert_refresh_token
INSERT INTO gateway.credentials (
    principal_id, kind, hash, hint, parent_id, credential_version, expires_at, actions, patterns
)
SELECT $1, 'refresh', $2, $3, $4, $5, $6, p.actions, p.patterns
FROM (SELECT 1) AS one LEFT JOIN gateway.credentials p ON p.id = $4

-- name: delete_credential
DELETE FROM gateway.credentials
WHERE principal_id = $1 AND id = $2
RETURNING id, kind, name, hint, actions, patterns, created_at, created_by, expires_at, last_used_at, last_used_address

-- name: list_credentials
SELECT id, kind, name, hint, actions, patterns, created_at, created_by, expires_at, last_used_at, last_used_address
FROM gateway.credentials
WHERE principal_id = $1 AND kind = $2
ORDER BY id
LIMIT 1000

-- name: trim_refresh_tokens
-- Of each principal's, those that were used last stay.
DELETE FROM gateway.credentials
WHERE id IN (
    SELECT id FROM (
        SELECT id, row_number() OVER (PARTITION BY principal_id ORDER BY coalesce(last_used_at, created_at) DESC) AS place
        FROM gateway.credentials WHERE kind = 'refresh'
    ) ranked WHERE place > $1
)

-- name: trim_credentials
DELETE FROM gateway.credentials
WHERE expires_at < clock_timestamp() - interval '1 day' AND (kind = 'refresh' OR name LIKE 'trust:%')
