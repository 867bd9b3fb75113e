-- name: trimmable
-- How far each stream with events older than $1 may be cut: events that every registered consumer has applied,
-- and those older than $2 in any case.
WITH aged AS (
    SELECT stream, max(seq) AS aged_seq, max(seq) FILTER (WHERE time < $2) AS overdue_seq
    FROM log.events WHERE time < $1 GROUP BY stream
), cuts AS (
    SELECT a.stream, greatest(
        a.overdue_seq,
        least(a.aged_seq, (SELECT min(CASE WHEN p.reload THEN 0 ELSE coalesce(p.last_seq, 0) END)
                           FROM log.consumers c
                           LEFT JOIN log.positions p ON p.consumer = c.name AND p.stream = a.stream))) AS cut
    FROM aged a
)
SELECT c.stream, c.cut FROM cuts c JOIN log.streams s USING (stream) WHERE c.cut >= s.first_seq ORDER BY c.stream

-- name: trim_stream
WITH cut AS (
    UPDATE log.streams SET first_seq = $2::bigint + 1 WHERE stream = $1 AND first_seq <= $2 AND seq >= $2 RETURNING
    stream
), gone AS (
    DELETE FROM log.events e USING cut WHERE e.stream = cut.stream AND e.seq <= $2 RETURNING 1
)
SELECT count(*) FROM gone

-- name: drop_closed_streams
-- A closed stream goes once retention has taken all its events.
WITH gone AS (
    DELETE FROM log.streams WHERE closed_at < $1 AND first_seq > seq RETURNING stream
)
DELETE FROM log.positions p USING gone WHERE p.stream = gone.stream
