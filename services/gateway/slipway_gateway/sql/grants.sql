-- name: find_principal_subject
SELECT id FROM gateway.principals WHERE name = $1 AND kind = $2

-- name: find_team_subject
SELECT id FROM gateway.teams WHERE name = $1 AND $2 = 'team'

-- name: find_grant_role
SELECT role FROM gateway.grants
WHERE principal_id IS NOT DISTINCT FROM $1::bigint AND team_id IS NOT DISTINCT FROM $2::bigint
  AND repository_id IS NOT DISTINCT FROM $3::bigint AND namespace_id IS NOT DISTINCT FROM $4::bigint
  AND pattern IS NOT DISTINCT FROM $5::text
FOR UPDATE

-- name: put_grant
INSERT INTO gateway.grants AS g (
    principal_id, team_id, repository_id, namespace_id, pattern, pattern_regex, pattern_prefix, role, granted_by
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
ON CONFLICT (principal_id, team_id, repository_id, namespace_id, pattern) DO UPDATE
SET role = EXCLUDED.role, granted_at = clock_timestamp(), granted_by = EXCLUDED.granted_by
WHERE g.role <> EXCLUDED.role

-- name: take_grant
DELETE FROM gateway.grants
WHERE principal_id IS NOT DISTINCT FROM $1::bigint AND team_id IS NOT DISTINCT FROM $2::bigint
  AND repository_id IS NOT DISTINCT FROM $3::bigint AND namespace_id IS NOT DISTINCT FROM $4::bigint
  AND pattern IS NOT DISTINCT FROM $5::text
RETURNING role

-- name: list_grants_on_repository
SELECT g.id, g.role, g.granted_at, g.granted_by,
       coalesce(p.kind, 'team') AS subject_kind, coalesce(p.name, t.name) AS subject,
       'repository' AS object_kind, r.name AS object
FROM gateway.grants g
JOIN gateway.repositories r ON r.id = g.repository_id
LEFT JOIN gateway.principals p ON p.id = g.principal_id
LEFT JOIN gateway.teams t ON t.id = g.team_id
WHERE g.repository_id = $1 AND g.id > $2
ORDER BY g.id
LIMIT $3

-- name: list_grants_on_namespace
SELECT g.id, g.role, g.granted_at, g.granted_by,
       coalesce(p.kind, 'team') AS subject_kind, coalesce(p.name, t.name) AS subject,
       CASE WHEN g.pattern IS NULL THEN 'namespace' ELSE 'pattern' END AS object_kind,
       coalesce(g.pattern, n.name) AS object
FROM (
    SELECT g.* FROM gateway.grants g WHERE g.namespace_id = $1
    UNION ALL
    SELECT g.* FROM gateway.grants g WHERE g.pattern >= $2::text AND g.pattern < $2::text || '~'
) g
LEFT JOIN gateway.namespaces n ON n.id = g.namespace_id
LEFT JOIN gateway.principals p ON p.id = g.principal_id
LEFT JOIN gateway.teams t ON t.id = g.team_id
WHERE g.id > $3
ORDER BY g.id
LIMIT $4

-- name: list_pattern_grants
SELECT g.id, g.role, g.granted_at, g.granted_by,
       coalesce(p.kind, 'team') AS subject_kind, coalesce(p.name, t.name) AS subject,
       'pattern' AS object_kind, g.pattern AS object
FROM gateway.grants g
LEFT JOIN gateway.principals p ON p.id = g.principal_id
LEFT JOIN gateway.teams t ON t.id = g.team_id
WHERE g.pattern IS NOT NULL AND g.id > $1
ORDER BY g.id
LIMIT $2

-- name: list_grants_of_subject
SELECT g.id, g.role, g.granted_at, g.granted_by,
       coalesce(p.kind, 'team') AS subject_kind, coalesce(p.name, t.name) AS subject,
       CASE WHEN g.repository_id IS NOT NULL THEN 'repository' WHEN g.namespace_id IS NOT NULL THEN 'namespace' ELSE 'pattern' END
           AS object_kind,
       coalesce(r.name, n.name, g.pattern) AS object
FROM gateway.grants g
LEFT JOIN gateway.repositories r ON r.id = g.repository_id
LEFT JOIN gateway.namespaces n ON n.id = g.namespace_id
LEFT JOIN gateway.principals p ON p.id = g.principal_id
LEFT JOIN gateway.teams t ON t.id = g.team_id
WHERE (g.principal_id = $1 OR g.team_id = $2) AND g.id > $3 AND (r.id IS NULL OR r.deleted_at IS NULL)
ORDER BY g.id
LIMIT $4
