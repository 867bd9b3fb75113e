-- name: find_repository
SELECT id, name, visibility
FROM gateway.repositories
WHERE name = $1 AND deleted_at IS NULL

-- name: find_repository_by_id
SELECT id, name, visibility
FROM gateway.repositories
WHERE id = $1 AND deleted_at IS NULL

-- name: ensure_namespace
INSERT INTO gateway.namespaces (name) VALUES ($1)
ON CONFLICT (name) DO NOTHING

-- name: insert_repository
INSERT INTO gateway.repositories (namespace_id, name, visibility, created_by)
SELECT id, $2, $3, $4 FROM gateway.namespaces WHERE name = $1
ON CONFLICT (name) WHERE deleted_at IS NULL DO NOTHING
RETURNING id, name, visibility

-- name: list_repositories
-- $3: only public ones, unless the caller may read all
SELECT id, name, visibility, created_at
FROM gateway.repositories
WHERE deleted_at IS NULL AND name > $1 AND ($3 OR visibility = 'public')
ORDER BY name
LIMIT $2

-- name: list_repositories_by_id
SELECT id, name
FROM gateway.repositories
WHERE deleted_at IS NULL AND id > $1
ORDER BY id
LIMIT $2

-- name: list_tags
SELECT name
FROM gateway.tags
WHERE repository_id = $1 AND name > $2
ORDER BY name
LIMIT $3
