-- name: find_principal
SELECT id, name, kind, password_hash, credential_version, is_admin
FROM gateway.principals
WHERE name = $1 AND disabled_at IS NULL

-- name: find_credential
SELECT c.id, c.kind, c.expires_at, c.credential_version, c.parent_id, p.id AS principal_id, p.name AS principal
FROM gateway.credentials c
JOIN gateway.principals p ON p.id = c.principal_id
WHERE c.hash = $1 AND p.disabled_at IS NULL AND (c.expires_at IS NULL OR c.expires_at > clock_timestamp())
  AND (c.credential_version IS NULL OR c.credential_version = p.credential_version)

-- name: touch_credentials
UPDATE gateway.credentials c
SET last_used_at = used.at, last_used_address = used.address
FROM unnest($1::bigint[], $2::timestamptz[], $3::text[]) AS used (id, at, address)
WHERE c.id = used.id

-- name: touch_login
UPDATE gateway.principals SET last_login_at = clock_timestamp() WHERE id = $1

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
SET password_hash = $2, credential_version = credential_version + 1, version = version + 1
WHERE name = $1 AND kind = 'user'
RETURNING id
