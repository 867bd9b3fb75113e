-- name: find_standing
-- One row, always. Who asks: principal $1, with password version $2 or credential $3; what is at name $4, in namespace $5 ($6: or
-- had that name before); and the highest role that was granted there.
SELECT p.id AS principal_id, p.name AS principal, p.kind, p.is_admin,
       c.id AS credential_id, c.actions, c.patterns,
       r.id AS repository_id, r.name AS repository, r.visibility,
       n.id AS namespace_id, g.role
FROM (SELECT 1) AS one
LEFT JOIN gateway.principals p
    ON p.id = $1 AND p.disabled_at IS NULL AND ($2::int IS NULL OR p.credential_version = $2)
LEFT JOIN gateway.credentials c
    ON c.id = $3 AND c.principal_id = p.id AND (c.expires_at IS NULL OR c.expires_at > clock_timestamp())
    AND (c.credential_version IS NULL OR c.credential_version = p.credential_version)
LEFT JOIN gateway.repositories r ON r.deleted_at IS NULL AND r.id = coalesce(
    (SELECT id FROM gateway.repositories WHERE name = $4 AND deleted_at IS NULL),
    (SELECT repository_id FROM gateway.repository_aliases WHERE $6 AND name = $4 AND expires_at > clock_timestamp())
)
LEFT JOIN gateway.namespaces n
    ON n.id = coalesce(r.namespace_id, (SELECT id FROM gateway.namespaces WHERE name = $5))
LEFT JOIN LATERAL (
    SELECT max(role) AS role FROM gateway.grants_at(p.id, r.id, n.id, coalesce(r.name, $4))
) g ON true

-- name: find_account
SELECT p.id AS principal_id, p.name AS principal, p.kind, p.is_admin, c.id AS credential_id, c.actions, c.patterns
FROM gateway.principals p
LEFT JOIN gateway.credentials c
    ON c.id = $3 AND c.principal_id = p.id AND (c.expires_at IS NULL OR c.expires_at > clock_timestamp())
    AND (c.credential_version IS NULL OR c.credential_version = p.credential_version)
WHERE p.id = $1 AND p.disabled_at IS NULL AND ($2::int IS NULL OR p.credential_version = $2)

-- name: find_namespace_standing
SELECT n.id AS namespace_id, n.name,
       (SELECT max(role) FROM gateway.grants_at($1, NULL, n.id, n.name || '/') WHERE namespace_id IS NOT NULL) AS role
FROM gateway.namespaces n
WHERE n.name = $2

-- name: explain_grants
SELECT g.role, g.pattern, g.repository_id, g.namespace_id, t.name AS team
FROM gateway.grants_at($1, $2, $3, $4) g
LEFT JOIN gateway.teams t ON t.id = g.team_id
ORDER BY g.role DESC, g.id
LIMIT 100
