"""Fill a running Slipway's database with an installation's worth of users, teams, repositories and grants, past its API."""

import asyncpg

from bench.plan import Installation
from slipway_gateway.domain.patterns import parse_pattern

# The user whose requests are measured: as the others, and with the grants below.
ASKING = "user-0000000"
# What each user has of its own. Each is in two teams, which have grants on repositories.
_OWN_REPOSITORIES, _OWN_NAMESPACES, _OWN_PATTERNS = 80, 2, 3
_TEAM_REPOSITORIES, _USERS_OF_A_TEAM = 30, 2
# Where the asking user may read for one reason only, or not at all.
ON_REPOSITORY, TO_TEAM, ON_NAMESPACE, ON_PATTERN, NOWHERE = (
    "only-on-repository/app", "only-to-team/app", "only-on-namespace/app", "only-on-pattern/app", "not-at-all/app",
)  # fmt: skip

# Numbers are dealt out by factors that share no divisor with any of the counts, so that nobody is granted the same twice.
_USERS = """
INSERT INTO gateway.principals (kind, name, password_hash)
SELECT 'user', 'user-' || lpad(u::text, 7, '0'), (SELECT password_hash FROM gateway.principals WHERE name = 'admin')
FROM generate_series(0, $1::int - 1) u
"""
_TEAMS = (
    "INSERT INTO gateway.teams (name) SELECT 'team-' || lpad(t::text, 7, '0') FROM generate_series(0, $1::int - 1) t"
)
_MEMBERS = """
INSERT INTO gateway.team_members (team_id, principal_id)
SELECT t.id, p.id
FROM generate_series(0, $1::int - 1) u CROSS JOIN generate_series(0, 1) i
JOIN gateway.principals p ON p.name = 'user-' || lpad(u::text, 7, '0')
JOIN gateway.teams t ON t.name = 'team-' || lpad(((u + i) % $2::int)::text, 7, '0')
"""
_NAMESPACES = """
INSERT INTO gateway.namespaces (name)
SELECT 'space-' || lpad(n::text, 4, '0') FROM generate_series(0, $1::int - 1) n
UNION ALL SELECT split_part(name, '/', 1) FROM unnest($2::text[]) name
"""
# One in twenty is public.
_REPOSITORIES = """
INSERT INTO gateway.repositories (namespace_id, name, visibility)
SELECT n.id, w.name, w.visibility
FROM (
    SELECT 'space-' || lpad((r % $2::int)::text, 4, '0') || '/app-' || lpad(r::text, 5, '0') AS name,
           CASE WHEN r / $2::int % 20 = 7 THEN 'public' ELSE 'private' END AS visibility
    FROM generate_series(0, $1::int - 1) r
    UNION ALL SELECT name, 'private' FROM unnest($3::text[]) name
) w JOIN gateway.namespaces n ON n.name = split_part(w.name, '/', 1)
"""
_NUMBERED = """
CREATE TEMPORARY TABLE numbered AS
SELECT id, right(name, 5)::int AS number FROM gateway.repositories WHERE name LIKE 'space-%';
CREATE UNIQUE INDEX ON numbered (number)
"""
_GRANTS_ON_REPOSITORIES = """
INSERT INTO gateway.grants (principal_id, repository_id, role)
SELECT p.id, r.id, 1 + i % 3
FROM generate_series(0, $1::int - 1) u CROSS JOIN generate_series(0, $3::int - 1) i
JOIN gateway.principals p ON p.name = 'user-' || lpad(u::text, 7, '0')
JOIN numbered r ON r.number = (u * 31 + i * 37) % $2::int
"""
_GRANTS_ON_NAMESPACES = """
INSERT INTO gateway.grants (principal_id, namespace_id, role)
SELECT p.id, n.id, 1
FROM generate_series(0, $1::int - 1) u CROSS JOIN generate_series(0, $3::int - 1) i
JOIN gateway.principals p ON p.name = 'user-' || lpad(u::text, 7, '0')
JOIN gateway.namespaces n ON n.name = 'space-' || lpad(((u + i * 3) % $2::int)::text, 4, '0')
"""
_GRANTS_TO_TEAMS = """
INSERT INTO gateway.grants (team_id, repository_id, role)
SELECT t.id, r.id, 2
FROM generate_series(0, $1::int - 1) n CROSS JOIN generate_series(0, $3::int - 1) i
JOIN gateway.teams t ON t.name = 'team-' || lpad(n::text, 7, '0')
JOIN numbered r ON r.number = (n * 17 + i * 41) % $2::int
"""
_GRANTS_ON_PATTERNS = """
INSERT INTO gateway.grants (principal_id, pattern, pattern_regex, pattern_prefix, role)
SELECT p.id, w.pattern, w.regex, w.prefix, 1
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) AS w (name, pattern, regex, prefix)
JOIN gateway.principals p ON p.name = w.name
"""
_GRANTS_OF_ASKING = """
INSERT INTO gateway.grants (principal_id, team_id, repository_id, namespace_id, role)
SELECT p.id, NULL::bigint, r.id, NULL::bigint, 1
FROM gateway.principals p, gateway.repositories r WHERE p.name = $1 AND r.name = $2
UNION ALL
SELECT NULL::bigint, t.id, r.id, NULL::bigint, 1
FROM gateway.teams t, gateway.repositories r WHERE t.name = 'team-0000000' AND r.name = $3
UNION ALL
SELECT p.id, NULL::bigint, NULL::bigint, r.namespace_id, 1
FROM gateway.principals p, gateway.repositories r WHERE p.name = $1 AND r.name = $4
"""


async def seed(dsn: str, size: Installation) -> int:
    """Put it there; all users have the password of `admin`. The number of grants that there are then."""
    connection = await asyncpg.connect(dsn)
    try:
        async with connection.transaction():
            await _insert(connection, size)
        await connection.execute("VACUUM ANALYZE")  # as it would have been done long before there were so many
        count: int = await connection.fetchval("SELECT count(*) FROM gateway.grants")
        return count
    finally:
        await connection.close()


async def _insert(connection: asyncpg.Connection, size: Installation) -> None:
    users, repositories, namespaces = size.users, size.repositories, size.namespaces
    teams = max(2, users // _USERS_OF_A_TEAM)
    special = [ON_REPOSITORY, TO_TEAM, ON_NAMESPACE, ON_PATTERN, NOWHERE]
    await connection.execute(_USERS, users)
    await connection.execute(_TEAMS, teams)
    await connection.execute(_MEMBERS, users, teams)
    await connection.execute(_NAMESPACES, namespaces, special)
    await connection.execute(_REPOSITORIES, repositories, namespaces, special)
    await connection.execute(_NUMBERED)
    await connection.execute(_GRANTS_ON_REPOSITORIES, users, repositories, _OWN_REPOSITORIES)
    await connection.execute(_GRANTS_ON_NAMESPACES, users, namespaces, _OWN_NAMESPACES)
    await connection.execute(_GRANTS_TO_TEAMS, teams, repositories, _TEAM_REPOSITORIES)
    await connection.execute(_GRANTS_ON_PATTERNS, *_patterns(users, namespaces))
    await connection.execute(_GRANTS_OF_ASKING, ASKING, ON_REPOSITORY, TO_TEAM, ON_NAMESPACE)


def _patterns(users: int, namespaces: int) -> tuple[list[str], list[str], list[str], list[str]]:
    """Names of users, and the patterns that are granted to each: a tenth of a namespace."""
    granted = [
        (f"user-{user:07d}", f"space-{(user + 5 + number) % namespaces:04d}/app-*{number}")
        for user in range(users)
        for number in range(_OWN_PATTERNS)
    ]
    granted.append((ASKING, ON_PATTERN.replace("/app", "/a*")))
    patterns = [parse_pattern(text) for _, text in granted]
    return (
        [name for name, _ in granted],
        [pattern.text for pattern in patterns],
        [pattern.regex for pattern in patterns],
        [pattern.prefix for pattern in patterns],
    )
