-- name: register
INSERT INTO log.consumers (name, start) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING RETURNING name

-- name: place_at_start
-- Where a new consumer begins in the streams there are; streams still to come begin at 0 without a row.
INSERT INTO log.positions (consumer, stream, last_seq, reload)
SELECT $1, stream, CASE $2 WHEN 'now' THEN seq ELSE first_seq - 1 END, $2 = 'snapshot' FROM log.streams

-- name: unregister
DELETE FROM log.consumers WHERE name = $1 RETURNING name

-- name: consumers
SELECT c.name, c.start, c.registered_at, counts.behind, counts.parked, counts.reloading
FROM log.consumers c, LATERAL (
    SELECT coalesce(sum(s.seq - coalesce(p.last_seq, 0)), 0)::bigint AS behind,
           count(p.parked_at) AS parked, count(*) FILTER (WHERE p.reload) AS reloading
    FROM log.streams s LEFT JOIN log.positions p ON p.consumer = c.name AND p.stream = s.stream
) counts
ORDER BY c.name

-- name: fetch
-- A consumer's state on one stream and the next events after it, as of one moment: the state is repeated in each row.
SELECT epoch.epoch AS current_epoch, s.seq AS head, s.first_seq,
       coalesce(p.last_seq, 0) AS last_seq, coalesce(p.reload, false) AS reload, p.parked_at IS NOT NULL AS parked,
       e.stream, e.seq, e.epoch, e.id, e.type, e.source, e.time, e.subject, e.actor, e.request_id, e.data
FROM log.streams s
CROSS JOIN log.epoch
LEFT JOIN log.positions p ON p.consumer = $1 AND p.stream = s.stream
LEFT JOIN LATERAL (
    SELECT * FROM log.events e WHERE e.stream = $2 AND e.seq > coalesce(p.last_seq, 0) ORDER BY e.seq LIMIT $3
) e ON true
WHERE s.stream = $2
ORDER BY e.seq

-- name: move
-- Lock, recheck and move in one statement. No row comes back when the position is not the expected one any more, the
-- stream is parked or awaits its snapshot, the epoch is another, or the log does not hold the new position.
INSERT INTO log.positions AS p (consumer, stream, last_seq)
SELECT $1, $2, $4::bigint
WHERE EXISTS (SELECT FROM log.epoch WHERE epoch = $5)
  AND EXISTS (SELECT FROM log.streams WHERE stream = $2 AND seq >= $4)
  AND ($3::bigint = 0 OR EXISTS (SELECT FROM log.positions WHERE consumer = $1 AND stream = $2))
ON CONFLICT (consumer, stream) DO UPDATE SET last_seq = excluded.last_seq
WHERE p.last_seq = $3 AND p.parked_at IS NULL AND NOT p.reload
RETURNING p.last_seq

-- name: set_position
INSERT INTO log.positions (consumer, stream, last_seq) VALUES ($1, $2, $3)
ON CONFLICT (consumer, stream) DO UPDATE
SET last_seq = excluded.last_seq, reload = false, parked_at = NULL, parked_seq = NULL, parked_reason = NULL

-- name: rewind
-- Below the oldest event a consumer that has snapshots is given one; any other begins at the oldest event.
INSERT INTO log.positions AS p (consumer, stream, last_seq, reload)
SELECT c.name, s.stream, greatest(least($3, s.seq), s.first_seq - 1), c.start = 'snapshot' AND $3 < s.first_seq - 1
FROM log.consumers c, log.streams s WHERE c.name = $1 AND s.stream = $2
ON CONFLICT (consumer, stream) DO UPDATE
SET last_seq = excluded.last_seq, reload = excluded.reload, parked_at = NULL, parked_seq = NULL, parked_reason = NULL
RETURNING p.last_seq

-- name: park
INSERT INTO log.positions AS p (consumer, stream, last_seq, parked_at, parked_seq, parked_reason)
VALUES ($1, $2, $3::bigint - 1, clock_timestamp(), $3, $4)
ON CONFLICT (consumer, stream) DO UPDATE
SET parked_at = excluded.parked_at, parked_seq = excluded.parked_seq, parked_reason = excluded.parked_reason
WHERE p.last_seq = excluded.last_seq AND p.parked_at IS NULL
RETURNING p.stream

-- name: parked
SELECT p.consumer, p.stream, p.parked_seq, p.parked_at, p.parked_reason, e.type, e.id,
       coalesce(s.seq - p.last_seq, 0) AS waiting
FROM log.positions p
LEFT JOIN log.events e ON e.stream = p.stream AND e.seq = p.parked_seq
LEFT JOIN log.streams s ON s.stream = p.stream
WHERE p.parked_at IS NOT NULL AND ($1::text IS NULL OR p.consumer = $1)
ORDER BY p.consumer, p.stream

-- name: retry_parked
UPDATE log.positions SET parked_at = NULL, parked_seq = NULL, parked_reason = NULL
WHERE consumer = $1 AND stream = $2 AND parked_at IS NOT NULL RETURNING last_seq

-- name: skip_parked
UPDATE log.positions
SET last_seq = parked_seq, reload = false, parked_at = NULL, parked_seq = NULL, parked_reason = NULL
WHERE consumer = $1 AND stream = $2 AND parked_at IS NOT NULL RETURNING last_seq

-- name: jump
-- Over events that retention has taken.
INSERT INTO log.positions AS p (consumer, stream, last_seq) VALUES ($1, $2, $4)
ON CONFLICT (consumer, stream) DO UPDATE SET last_seq = excluded.last_seq
WHERE p.last_seq = $3 AND p.parked_at IS NULL AND NOT p.reload
RETURNING p.last_seq

-- name: behind
-- Every stream that a consumer of $1 has work on, unless the next event is younger than $2 (it may still be on its
-- way).
SELECT c.name AS consumer, s.stream
FROM log.consumers c
CROSS JOIN log.streams s
LEFT JOIN log.positions p ON p.consumer = c.name AND p.stream = s.stream
WHERE c.name = ANY ($1::text[]) AND p.parked_at IS NULL
  AND (p.reload OR (s.seq > coalesce(p.last_seq, 0) AND NOT EXISTS (
      SELECT FROM log.events e
      WHERE e.stream = s.stream AND e.seq = coalesce(p.last_seq, 0) + 1 AND e.time > clock_timestamp() - $2::interval)))

-- name: lag
SELECT c.name AS consumer, sum(s.seq - coalesce(p.last_seq, 0))::bigint AS behind, count(p.parked_at) AS parked
FROM log.consumers c
CROSS JOIN log.streams s
LEFT JOIN log.positions p ON p.consumer = c.name AND p.stream = s.stream
WHERE c.name = ANY ($1::text[]) GROUP BY c.name

-- name: relax
-- This transaction's commit does not wait for the disk.
SET LOCAL synchronous_commit = off

-- name: prefer_indexes
-- The ranges that a sweep asks for are tiny, which no plan made beforehand can know.
SET enable_seqscan = off
