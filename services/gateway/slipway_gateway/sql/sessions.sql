-- name: insert_login_session
INSERT INTO gateway.login_sessions (hash, principal_id, credential_version, expires_at, address, user_agent)
SELECT $1, p.id, p.credential_version, clock_timestamp() + $3::interval, $4, $5
FROM gateway.principals p
WHERE p.id = $2

-- name: find_login_session
SELECT p.id AS principal_id, p.name, s.credential_version, s.last_seen_at
FROM gateway.login_sessions s
JOIN gateway.principals p ON p.id = s.principal_id
WHERE s.hash = $1 AND s.expires_at > clock_timestamp() AND s.last_seen_at > clock_timestamp() - $2::interval
  AND p.disabled_at IS NULL AND p.credential_version = s.credential_version

-- name: touch_login_session
UPDATE gateway.login_sessions SET last_seen_at = clock_timestamp() WHERE hash = $1

-- name: delete_login_session
DELETE FROM gateway.login_sessions WHERE hash = $1

-- name: trim_login_sessions
DELETE FROM gateway.login_sessions
WHERE expires_at < clock_timestamp() OR last_seen_at < clock_timestamp() - $1::interval

-- name: trim_many_login_sessions
DELETE FROM gateway.login_sessions
WHERE hash IN (
    SELECT hash FROM (
        SELECT hash, row_number() OVER (PARTITION BY principal_id ORDER BY last_seen_at DESC) AS place
        FROM gateway.login_sessions
    ) ranked WHERE place > $1
)

-- name: trim_login_attempts
DELETE FROM gateway.login_attempts WHERE expires_at < clock_timestamp()

-- name: insert_login_attempt
INSERT INTO gateway.login_attempts (hash, kind, sealed, expires_at)
VALUES ($1, $2, $3, clock_timestamp() + $4::interval)

-- name: take_login_attempt
DELETE FROM gateway.login_attempts
WHERE hash = $1 AND kind = $2
RETURNING CASE WHEN expires_at > clock_timestamp() THEN sealed END
