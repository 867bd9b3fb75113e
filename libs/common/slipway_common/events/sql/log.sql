-- name: append
SELECT log.append($1, $2, $3, $4, $5, $6, $7, $8, $9)

-- name: read
SELECT stream, seq, epoch, id, type, source, time, subject, actor, request_id, address, data
FROM log.events WHERE stream = $1 AND seq > $2 ORDER BY seq LIMIT $3

-- name: search
-- Events of any stream by who caused them ($1), of one stream ($2), in a span of time, the newest first; $5 to $7 are the place of
-- the last one of the page before.
SELECT stream, seq, epoch, id, type, source, time, subject, actor, request_id, address, data
FROM log.events
WHERE ($1::text IS NULL OR actor = $1) AND ($2::text IS NULL OR stream = $2)
  AND ($3::timestamptz IS NULL OR time >= $3) AND ($4::timestamptz IS NULL OR time < $4)
  AND ($5::timestamptz IS NULL OR (time, stream, seq) < ($5, $6::text, $7::bigint))
ORDER BY time DESC, stream DESC, seq DESC
LIMIT $8

-- name: bounds
SELECT seq, first_seq FROM log.streams WHERE stream = $1

-- name: find_seq_at
-- The last event before a time; first_seq - 1 when all that is left is younger.
SELECT coalesce(
    (SELECT max(e.seq) FROM log.events e WHERE e.stream = s.stream AND e.time < $2), s.first_seq - 1)
FROM log.streams s WHERE s.stream = $1

-- name: heads
SELECT stream, seq FROM log.streams ORDER BY stream

-- name: hint
SELECT pg_notify($1, payload) FROM unnest($2::text[]) AS payload

-- name: epoch
SELECT epoch FROM log.epoch

-- name: raise_epoch
UPDATE log.epoch SET epoch = epoch + 1, raised_at = clock_timestamp(), reason = $1 RETURNING epoch

-- name: rebase_transactions
-- Events restored into another server carry transaction ids that are still to come there: sweeps would see them for
-- ever.
UPDATE log.events SET xid = pg_current_xact_id() WHERE xid > pg_current_xact_id()

-- name: snapshot
SELECT pg_current_snapshot()::text

-- name: sweep
-- Streams with events that the snapshot before could not see. A transaction was invisible to it exactly when it had not
-- begun (id at or above its xmax) or had not ended (id in its list): both are index ranges, however long any
-- transaction runs.
SELECT pg_current_snapshot()::text AS snapshot, ARRAY(
    SELECT e.stream FROM log.events e
    WHERE e.xid >= pg_snapshot_xmax($1::text::pg_snapshot) AND e.xid < pg_snapshot_xmax(pg_current_snapshot())
    UNION
    SELECT e.stream FROM log.events e WHERE e.xid = ANY (ARRAY(SELECT pg_snapshot_xip($1::text::pg_snapshot)))
) AS streams

-- name: close_stream
UPDATE log.streams SET closed_at = coalesce(closed_at, clock_timestamp()) WHERE stream = $1
