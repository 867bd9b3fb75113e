-- name: find_repository_by_id
SELECT id, name, visibility
FROM gateway.repositories
WHERE id = $1 AND deleted_at IS NULL

-- name: find_repository_by_name
SELECT id, name, visibility
FROM gateway.repositories
WHERE name = $1 AND deleted_at IS NULL

-- name: find_last_of_name
SELECT coalesce(
    (SELECT id FROM gateway.repositories WHERE name = $1 AND deleted_at IS NULL),
    (SELECT id FROM gateway.repositories WHERE name = $1 AND deleted_at IS NOT NULL ORDER BY deleted_at DESC LIMIT 1)
)

-- name: find_repository_details
SELECT id, name, visibility, kind, description, labels, version, created_at, created_by, updated_at
FROM gateway.repositories
WHERE id = $1 AND deleted_at IS NULL

-- name: insert_repository
INSERT INTO gateway.repositories (namespace_id, name, visibility, kind, description, labels, created_by)
VALUES ($1, $2, $3, $4, $5, $6::text::jsonb, $7)
ON CONFLICT (name) WHERE deleted_at IS NULL DO NOTHING
RETURNING id, name, visibility, kind, description, labels, version, created_at, created_by, updated_at

-- name: lock_repository
SELECT id FROM gateway.repositories WHERE id = $1 AND deleted_at IS NULL FOR UPDATE

-- name: update_repository
UPDATE gateway.repositories
SET name = coalesce($3, name), namespace_id = coalesce($4, namespace_id), visibility = coalesce($5, visibility),
    kind = coalesce($6, kind), description = coalesce($7, description), labels = coalesce($8::text::jsonb, labels),
    version = version + 1, updated_at = clock_timestamp()
WHERE id = $1 AND deleted_at IS NULL AND ($2::int IS NULL OR version = $2)
RETURNING id, name, visibility, kind, description, labels, version, created_at, created_by, updated_at

-- name: trash_repository
UPDATE gateway.repositories SET deleted_at = clock_timestamp(), version = version + 1 WHERE id = $1

-- name: upsert_alias
INSERT INTO gateway.repository_aliases (name, repository_id, expires_at)
VALUES ($1, $2, clock_timestamp() + $3::interval)
ON CONFLICT (name) DO UPDATE SET repository_id = EXCLUDED.repository_id, expires_at = EXCLUDED.expires_at

-- name: delete_alias
DELETE FROM gateway.repository_aliases WHERE name = $1

-- name: delete_aliases_of
DELETE FROM gateway.repository_aliases WHERE repository_id = $1

-- name: trim_aliases
DELETE FROM gateway.repository_aliases WHERE expires_at < clock_timestamp()

-- name: list_all_repositories
-- $3 is not needed, but keeps the arguments those of list_repositories.
SELECT id, name, visibility, kind, description, labels, version, created_at, created_by, updated_at
FROM gateway.repositories r
WHERE deleted_at IS NULL AND name > $1 AND $3::bigint IS NOT DISTINCT FROM $3
  AND name > coalesce($5 || '/', '') AND name < coalesce(nullif($5, '') || '0', '~')
  AND ($4::text[] IS NULL OR visibility = 'public' OR name ~ ANY ($4))
  AND ($5::text IS NULL OR namespace_id = (SELECT n.id FROM gateway.namespaces n WHERE n.name = $5))
  AND ($6::text IS NULL OR visibility = $6) AND ($7::text IS NULL OR kind = $7)
  AND ($8::text IS NULL OR strpos(name, $8) > 0)
ORDER BY name
LIMIT $2

-- name: list_repositories
-- What a principal ($3) may read, each way to have a right by its own index, as many as a page needs: public ones, granted ones,
-- those in granted namespaces, those that granted patterns match. $4: patterns that the credential is bounded to. The names in
-- one namespace ($5) are a range of the index by name ('0' comes after '/'), those of the root, which have no slash, lie anywhere.
WITH given AS (
    SELECT g.repository_id, g.namespace_id, g.pattern_regex, g.pattern_prefix
    FROM gateway.grants g WHERE g.principal_id = $3
    UNION
    SELECT g.repository_id, g.namespace_id, g.pattern_regex, g.pattern_prefix
    FROM gateway.team_members m JOIN gateway.grants g ON g.team_id = m.team_id WHERE m.principal_id = $3
), found AS (
    (
        SELECT r.id, r.name FROM gateway.repositories r
        WHERE r.visibility = 'public' AND r.deleted_at IS NULL AND r.name > $1
          AND r.name > coalesce($5 || '/', '') AND r.name < coalesce(nullif($5, '') || '0', '~')
          AND ($5::text IS NULL OR r.namespace_id = (SELECT n.id FROM gateway.namespaces n WHERE n.name = $5))
          AND ($6::text IS NULL OR r.visibility = $6) AND ($7::text IS NULL OR r.kind = $7)
          AND ($8::text IS NULL OR strpos(r.name, $8) > 0)
        ORDER BY r.name LIMIT $2
    )
    UNION
    SELECT page.id, page.name FROM given CROSS JOIN LATERAL (
        SELECT r.id, r.name FROM gateway.repositories r
        WHERE r.id = given.repository_id AND r.deleted_at IS NULL AND r.name > $1
          AND ($4::text[] IS NULL OR r.name ~ ANY ($4))
          AND ($5::text IS NULL OR r.namespace_id = (SELECT n.id FROM gateway.namespaces n WHERE n.name = $5))
          AND ($6::text IS NULL OR r.visibility = $6) AND ($7::text IS NULL OR r.kind = $7)
          AND ($8::text IS NULL OR strpos(r.name, $8) > 0)
        LIMIT 1  -- one by one, not all repositories beside all grants
    ) page
    WHERE given.repository_id IS NOT NULL
    UNION
    SELECT page.id, page.name FROM given CROSS JOIN LATERAL (
        SELECT r.id, r.name FROM gateway.repositories r
        WHERE r.namespace_id = given.namespace_id AND r.deleted_at IS NULL AND r.name > $1
          AND ($4::text[] IS NULL OR r.name ~ ANY ($4))
          AND ($6::text IS NULL OR r.visibility = $6) AND ($7::text IS NULL OR r.kind = $7)
          AND ($8::text IS NULL OR strpos(r.name, $8) > 0)
        ORDER BY r.name LIMIT $2
    ) page
    WHERE given.namespace_id IS NOT NULL
      AND ($5::text IS NULL OR given.namespace_id = (SELECT n.id FROM gateway.namespaces n WHERE n.name = $5))
    UNION
    SELECT page.id, page.name FROM given CROSS JOIN LATERAL (
        SELECT r.id, r.name FROM gateway.repositories r
        WHERE r.deleted_at IS NULL AND r.name > $1
          AND r.name >= given.pattern_prefix AND r.name < given.pattern_prefix || '~' AND r.name ~ given.pattern_regex
          AND r.name > coalesce($5 || '/', '') AND r.name < coalesce(nullif($5, '') || '0', '~')
          AND ($4::text[] IS NULL OR r.name ~ ANY ($4))
          AND ($5::text IS NULL OR r.namespace_id = (SELECT n.id FROM gateway.namespaces n WHERE n.name = $5))
          AND ($6::text IS NULL OR r.visibility = $6) AND ($7::text IS NULL OR r.kind = $7)
          AND ($8::text IS NULL OR strpos(r.name, $8) > 0)
        ORDER BY r.name LIMIT $2
    ) page
    WHERE given.pattern_regex IS NOT NULL
)
SELECT r.id, r.name, r.visibility, r.kind, r.description, r.labels, r.version, r.created_at, r.created_by, r.updated_at
FROM (SELECT id, name FROM found ORDER BY name LIMIT $2) page
JOIN gateway.repositories r USING (id)
ORDER BY page.name

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
