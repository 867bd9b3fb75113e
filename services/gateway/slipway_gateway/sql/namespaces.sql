-- name: find_namespace
SELECT id, name, description, create_on_push, default_visibility, public_allowed, version, created_by
FROM gateway.namespaces
WHERE name = $1

-- name: list_namespaces
-- $3 all of them, or $4 those that a principal was granted anything in; $5: patterns that the credential is bounded to.
WITH granted AS (
    SELECT DISTINCT coalesce(g.namespace_id, r.namespace_id) AS id
    FROM (
        SELECT g.repository_id, g.namespace_id FROM gateway.grants g WHERE g.principal_id = $4
        UNION ALL
        SELECT g.repository_id, g.namespace_id
        FROM gateway.team_members m JOIN gateway.grants g ON g.team_id = m.team_id WHERE m.principal_id = $4
    ) g
    LEFT JOIN LATERAL (
        SELECT r.namespace_id FROM gateway.repositories r WHERE r.id = g.repository_id AND r.deleted_at IS NULL
        LIMIT 1  -- one by one, not all repositories beside all grants
    ) r ON true
)
SELECT n.id, n.name, n.description, n.create_on_push, n.default_visibility, n.public_allowed, n.version, n.created_by
FROM (
    SELECT id FROM gateway.namespaces WHERE $3
    UNION ALL
    SELECT id FROM granted WHERE NOT $3
) among
JOIN gateway.namespaces n USING (id)
WHERE n.name > $1 AND strpos(n.name, '#') = 0 AND ($5::text[] IS NULL OR EXISTS (
    SELECT FROM gateway.repositories r
    WHERE r.namespace_id = n.id AND r.deleted_at IS NULL AND r.name ~ ANY ($5)
))
ORDER BY n.name
LIMIT $2

-- name: lock_namespace
SELECT id, name, description, create_on_push, default_visibility, public_allowed, version, created_by
FROM gateway.namespaces
WHERE name = $1
FOR UPDATE

-- name: share_namespace
SELECT id, name, description, create_on_push, default_visibility, public_allowed, version, created_by
FROM gateway.namespaces
WHERE name = $1
FOR SHARE

-- name: insert_namespace
INSERT INTO gateway.namespaces (name, created_by) VALUES ($1, $2)
ON CONFLICT (name) DO NOTHING
RETURNING id, name, description, create_on_push, default_visibility, public_allowed, version, created_by

-- name: update_namespace
UPDATE gateway.namespaces
SET description = coalesce($3, description), create_on_push = coalesce($4, create_on_push),
    default_visibility = CASE WHEN $5 THEN $6 ELSE default_visibility END,
    public_allowed = coalesce($7, public_allowed), version = version + 1
WHERE name = $1 AND ($2::int IS NULL OR version = $2)
RETURNING id, name, description, create_on_push, default_visibility, public_allowed, version, created_by

-- name: count_in_namespace
SELECT count(*) FROM gateway.repositories
WHERE namespace_id = $1 AND deleted_at IS NULL AND (NOT $2 OR visibility = 'public')

-- name: delete_robots_of
DELETE FROM gateway.principals WHERE namespace_id = $1

-- name: delete_namespace
DELETE FROM gateway.namespaces n
WHERE n.id = $1 AND NOT EXISTS (SELECT FROM gateway.repositories r WHERE r.namespace_id = $1)
RETURNING n.id

-- name: delete_grants_on_namespace
-- Those on the whole of it, and those on patterns of its names ($2: the name with a slash).
DELETE FROM gateway.grants WHERE namespace_id = $1 OR (pattern >= $2::text AND pattern < $2::text || '~')

-- name: bury_namespace
UPDATE gateway.namespaces SET name = name || '#' || id WHERE id = $1
