-- name: hold_namespace
SELECT id FROM gateway.namespaces WHERE name = $1 FOR KEY SHARE

-- name: find_robot
SELECT id, name, namespace_id, description, disabled_at IS NOT NULL AS disabled, version, created_at, created_by
FROM gateway.principals
WHERE name = $1 AND kind = 'robot'

-- name: list_robots
SELECT id, name, namespace_id, description, disabled_at IS NOT NULL AS disabled, version, created_at, created_by
FROM gateway.principals
WHERE namespace_id = $1 AND kind = 'robot' AND name > $2
ORDER BY name
LIMIT $3

-- name: lock_robot
SELECT id, name, namespace_id, description, disabled_at IS NOT NULL AS disabled, version, created_at, created_by
FROM gateway.principals
WHERE name = $1 AND kind = 'robot'
FOR UPDATE

-- name: insert_robot
INSERT INTO gateway.principals (kind, name, namespace_id, description, created_by) VALUES ('robot', $1, $2, $3, $4)
ON CONFLICT (name) DO NOTHING
RETURNING id, name, namespace_id, description, disabled_at IS NOT NULL AS disabled, version, created_at, created_by

-- name: update_robot
UPDATE gateway.principals
SET description = coalesce($3, description),
    disabled_at = CASE WHEN $4::boolean IS NULL THEN disabled_at WHEN $4 THEN clock_timestamp() END,
    version = version + 1
WHERE id = $1 AND ($2::int IS NULL OR version = $2)
RETURNING id, name, namespace_id, description, disabled_at IS NOT NULL AS disabled, version, created_at, created_by

-- name: delete_robot
DELETE FROM gateway.principals WHERE id = $1

-- name: hold_repositories
SELECT id, name, visibility
FROM gateway.repositories
WHERE namespace_id = $1 AND name = ANY ($2::text[]) AND deleted_at IS NULL
ORDER BY id
FOR KEY SHARE

-- name: list_robot_secrets
-- Those that people made, and those that a CI system holds at this moment.
SELECT id, kind, name, hint, actions, patterns, created_at, created_by, expires_at, last_used_at, last_used_address
FROM gateway.credentials
WHERE principal_id = $1 AND kind = 'robot' AND (name NOT LIKE 'trust:%' OR expires_at > clock_timestamp())
ORDER BY name LIKE 'trust:%', id DESC
LIMIT $2

-- name: list_trusts
SELECT t.id, t.robot_id, p.name AS robot, t.name, t.issuer, t.audience, t.claims, t.life_s, t.created_at, t.created_by
FROM gateway.trusts t
JOIN gateway.principals p ON p.id = t.robot_id
WHERE t.robot_id = $1
ORDER BY t.id
LIMIT $2

-- name: list_trusts_of_living_robot
SELECT t.id, t.robot_id, p.name AS robot, t.name, t.issuer, t.audience, t.claims, t.life_s, t.created_at, t.created_by
FROM gateway.trusts t
JOIN gateway.principals p ON p.id = t.robot_id
WHERE p.name = $1 AND p.disabled_at IS NULL
ORDER BY t.id
LIMIT $2

-- name: list_trusts_in_issuer
SELECT t.id, t.robot_id, p.name AS robot, t.name, t.issuer, t.audience, t.claims, t.life_s, t.created_at, t.created_by
FROM gateway.trusts t
JOIN gateway.principals p ON p.id = t.robot_id
WHERE t.issuer = $1 AND p.disabled_at IS NULL
ORDER BY t.id
LIMIT $2

-- name: find_trust
SELECT t.id, t.robot_id, p.name AS robot, t.name, t.issuer, t.audience, t.claims, t.life_s, t.created_at, t.created_by
FROM gateway.trusts t
JOIN gateway.principals p ON p.id = t.robot_id
WHERE t.robot_id = $1 AND t.id = $2

-- name: count_trusts
SELECT count(*) FROM gateway.trusts WHERE robot_id = $1

-- name: insert_trust
INSERT INTO gateway.trusts (robot_id, name, issuer, audience, claims, life_s, created_by)
VALUES ($1, $2, $3, $4, $5::text::jsonb, $6, $7)
ON CONFLICT (robot_id, name) DO NOTHING
RETURNING id

-- name: delete_trust
DELETE FROM gateway.trusts WHERE id = $1

-- name: delete_secrets_of_trust
DELETE FROM gateway.credentials
WHERE principal_id = $1 AND kind = 'robot' AND name = 'trust:' || $2::text
