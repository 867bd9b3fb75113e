-- name: find_principal
SELECT id, name, kind, password_hash, credential_version, is_admin
FROM gateway.principals
WHERE name = $1 AND disabled_at IS NULL

-- name: insert_first_admin
INSERT INTO gateway.principals (kind, name, password_hash, is_admin)
SELECT 'user', $1, $2, true
WHERE NOT EXISTS (SELECT FROM gateway.principals)
ON CONFLICT (name) DO NOTHING
RETURNING id

-- name: any_principal
SELECT EXISTS (SELECT FROM gateway.principals)

-- name: set_password
UPDATE gateway.principals
SET password_hash = $2, credential_version = credential_version + 1
WHERE name = $1
RETURNING id
