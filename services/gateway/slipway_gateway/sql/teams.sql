-- name: find_team
SELECT id, name, description, external_groups, version, created_at, created_by
FROM gateway.teams
WHERE name = $1

-- name: list_teams
SELECT id, name, description, external_groups, version, created_at, created_by
FROM gateway.teams
WHERE name > $1
ORDER BY name
LIMIT $2

-- name: lock_team
SELECT id, name, description, external_groups, version, created_at, created_by
FROM gateway.teams
WHERE name = $1
FOR UPDATE

-- name: insert_team
INSERT INTO gateway.teams (name, description, external_groups, created_by) VALUES ($1, $2, $3, $4)
ON CONFLICT (name) DO NOTHING
RETURNING id, name, description, external_groups, version, created_at, created_by

-- name: update_team
UPDATE gateway.teams
SET description = coalesce($3, description), external_groups = coalesce($4::text[], external_groups), version = version + 1
WHERE id = $1 AND ($2::int IS NULL OR version = $2)
RETURNING id, name, description, external_groups, version, created_at, created_by

-- name: delete_team
DELETE FROM gateway.teams WHERE id = $1

-- name: find_team_role
SELECT role FROM gateway.team_members WHERE team_id = $1 AND principal_id = $2

-- name: list_team_members
SELECT p.name, m.role, m.source, m.added_at, m.added_by
FROM gateway.team_members m
JOIN gateway.principals p ON p.id = m.principal_id
WHERE m.team_id = $1 AND p.name > $2
ORDER BY p.name
LIMIT $3

-- name: find_team_candidate
SELECT id FROM gateway.principals WHERE name = $1 AND kind = 'user' FOR KEY SHARE

-- name: find_team_member
SELECT p.name, m.role, m.source, m.added_at, m.added_by
FROM gateway.team_members m
JOIN gateway.principals p ON p.id = m.principal_id
WHERE m.team_id = $1 AND m.principal_id = $2

-- name: put_team_member
-- Whom a person puts there, no provider takes away. No row where it was so already.
INSERT INTO gateway.team_members AS m (team_id, principal_id, role, source, added_by) VALUES ($1, $2, $3, 'manual', $4)
ON CONFLICT (team_id, principal_id) DO UPDATE
SET role = EXCLUDED.role, source = 'manual', added_at = clock_timestamp(), added_by = EXCLUDED.added_by
WHERE m.role <> EXCLUDED.role OR m.source <> 'manual'
RETURNING m.role

-- name: delete_team_member
DELETE FROM gateway.team_members m
USING gateway.principals p
WHERE m.team_id = $1 AND p.id = m.principal_id AND p.name = $2
RETURNING p.name

-- name: delete_group_members
DELETE FROM gateway.team_members m
USING gateway.principals p
WHERE m.team_id = $1 AND m.source = 'oidc' AND p.id = m.principal_id
RETURNING p.name

-- name: lock_group_member
-- Two logins of one user take turns.
SELECT name FROM gateway.principals WHERE id = $1 AND kind = 'user' FOR NO KEY UPDATE

-- name: leave_teams_of_groups
DELETE FROM gateway.team_members m
USING gateway.teams t
WHERE m.principal_id = $1 AND m.source = 'oidc' AND t.id = m.team_id AND NOT t.external_groups && $2::text[]
RETURNING t.name

-- name: join_teams_of_groups
INSERT INTO gateway.team_members (team_id, principal_id, source, added_by)
SELECT t.id, $1, 'oidc', $3 FROM gateway.teams t WHERE t.external_groups && $2::text[] ORDER BY t.id FOR KEY SHARE
ON CONFLICT (team_id, principal_id) DO NOTHING
RETURNING (SELECT t.name FROM gateway.teams t WHERE t.id = team_id) AS name
