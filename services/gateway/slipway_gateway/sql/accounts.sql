-- name: find_user
SELECT id, name, display_name, email, is_admin, disabled_at IS NOT NULL AS disabled, password_hash IS NOT NULL AS has_password,
       version, created_at, created_by, last_login_at
FROM gateway.principals
WHERE name = $1 AND kind = 'user'

-- name: find_living_principal
SELECT id, is_admin FROM gateway.principals WHERE name = $1 AND kind = $2 AND disabled_at IS NULL

-- name: list_users
SELECT id, name, display_name, email, is_admin, disabled_at IS NOT NULL AS disabled, password_hash IS NOT NULL AS has_password,
       version, created_at, created_by, last_login_at
FROM gateway.principals
WHERE kind = 'user' AND name > $1
ORDER BY name
LIMIT $2

-- name: teams_of
SELECT t.name FROM gateway.team_members m JOIN gateway.teams t ON t.id = m.team_id
WHERE m.principal_id = $1
ORDER BY t.name
LIMIT 1000

-- name: insert_user
INSERT INTO gateway.principals (kind, name, password_hash, display_name, email, is_admin, created_by)
VALUES ('user', $1, $2, $3, $4, $5, $6)
ON CONFLICT (name) DO NOTHING
RETURNING id, name, display_name, email, is_admin, disabled_at IS NOT NULL AS disabled,
          password_hash IS NOT NULL AS has_password, version, created_at, created_by, last_login_at

-- name: lock_user
SELECT id FROM gateway.principals WHERE name = $1 AND kind = 'user' FOR UPDATE

-- name: update_user
-- A new password, and being disabled, end every login there is.
UPDATE gateway.principals
SET display_name = coalesce($3, display_name), email = coalesce($4, email), is_admin = coalesce($5, is_admin),
    disabled_at = CASE WHEN $6::boolean IS NULL THEN disabled_at WHEN $6 THEN clock_timestamp() END,
    password_hash = coalesce($7, password_hash),
    credential_version = credential_version + CASE WHEN $7::text IS NOT NULL OR $6 THEN 1 ELSE 0 END,
    version = version + 1
WHERE id = $1 AND ($2::int IS NULL OR version = $2)
RETURNING id, name, display_name, email, is_admin, disabled_at IS NOT NULL AS disabled,
          password_hash IS NOT NULL AS has_password, version, created_at, created_by, last_login_at

-- name: delete_user
DELETE FROM gateway.principals WHERE id = $1

-- name: lock_admins
SELECT id FROM gateway.principals WHERE is_admin AND kind = 'user' AND disabled_at IS NULL ORDER BY id FOR SHARE

-- name: find_user_by_identity
SELECT p.id, p.name, p.display_name, p.email, p.is_admin, p.disabled_at IS NOT NULL AS disabled,
       p.password_hash IS NOT NULL AS has_password, p.version, p.created_at, p.created_by, p.last_login_at
FROM gateway.external_identities e
JOIN gateway.principals p ON p.id = e.principal_id
WHERE e.issuer = $1 AND e.subject = $2

-- name: link_identity
INSERT INTO gateway.external_identities (principal_id, issuer, subject) VALUES ($1, $2, $3)
