-- name: find_block
SELECT max(blocked_until) FROM gateway.login_failures WHERE key = ANY ($1) AND blocked_until > clock_timestamp()

-- name: count_failure
-- $2 window, $3 failures forgiven in it, $4 the first block, doubled by each further failure up to $5.
INSERT INTO gateway.login_failures AS f (key, failures, since) VALUES ($1, 1, clock_timestamp())
ON CONFLICT (key) DO UPDATE
SET failures = CASE WHEN f.since < clock_timestamp() - $2::interval THEN 1 ELSE f.failures + 1 END,
    since = CASE WHEN f.since < clock_timestamp() - $2::interval THEN clock_timestamp() ELSE f.since END,
    blocked_until = CASE
        WHEN f.since < clock_timestamp() - $2::interval OR f.failures + 1 < $3::int THEN f.blocked_until
        ELSE clock_timestamp() + least($5::interval, $4::interval * power(2, least(f.failures + 1 - $3::int, 12)))
    END

-- name: forget_failures
DELETE FROM gateway.login_failures WHERE key = $1

-- name: trim_failures
DELETE FROM gateway.login_failures
WHERE since < clock_timestamp() - $1::interval AND blocked_until < clock_timestamp()
