-- name: find_namespace
SELECT id, name, description, create_on_push, default_visibility, public_allowed, version, created_by
FROM gateway.namespaces
WHERE name = $1

-- name: list_all_namespaces
-- $3: patterns that the credential is bounded to.
SELECT n.id, n.name, n.description, n.create_on_push, n.default_visibility, n.public_allowed, n.version, n.created_by
FROM gateway.namespaces n
WHERE n.name > $1 AND strpos(n.name, '#') = 0 AND ($3::text[] IS NULL OR EXISTS (
    SELECT FROM gateway.repositories r
    WHERE r.namespace_id = n.id AND r.deleted_at IS NULL AND r.name ~ ANY ($3)
))
ORDER BY n.name
LIMIT $2

-- name: list_namespaces
-- Those that a principal ($4) was granted anything in, each by itself: there may be many others, and many repositories.
SELECT n.id, n.name, n.description, n.create_on_push, n.default_visibility, n.public_allowed, n.version, n.created_by
FROM (
    SELECT DISTINCT coalesce(g.namespace_id, r.namespace_id) AS id
    FROM (
        SELECT g.repository_id, g.namespace_id FROM gateway.grants g WHERE g.principal_id = $4
        UNION ALL
        SELECT g.repository_id, g.namespace_id
        FROM gateway.team_members m JOIN gateway.grants g ON g.team_id = m.team_id WHERE m.principal_id = $4
    ) g
    LEFT JOIN LATERAL (
        SELECT r.namespace_id FROM gateway.repositories r WHERE r.id = g.repository_id AND r.deleted_at IS NULL LIMIT 1
    ) r ON true
) granted
CROSS JOIN LATERAL (
    SELECT n.id, n.name, n.description, n.create_on_push, n.default_visibility, n.public_allowed, n.version, n.created_by
    FROM gateway.namespaces n WHERE n.id = granted.id AND n.name > $1 AND strpos(n.name, '#') = 0 LIMIT 1
) n
WHERE $3::text[] IS NULL OR EXISTS (
    SELECT FROM gateway.repositories r
    WHERE r.namespace_id = n.id AND r.deleted_at IS NULL AND r.name ~ ANY ($3)
)
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
