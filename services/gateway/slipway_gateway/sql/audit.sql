-- name: insert_refusal
INSERT INTO gateway.refusals (first_at, last_at, count, actor, address, action, target, reason, request_id)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)

-- name: trim_refusals
DELETE FROM gateway.refusals WHERE last_at < clock_timestamp() - $1::interval

-- name: search_refusals
SELECT id, first_at, last_at, count, actor, address, action, target, reason, request_id
FROM gateway.refusals
WHERE ($1::text IS NULL OR actor = $1) AND ($2::text IS NULL OR target = $2)
  AND ($3::timestamptz IS NULL OR last_at >= $3) AND ($4::timestamptz IS NULL OR last_at < $4)
  AND ($5::timestamptz IS NULL OR (last_at, id) < ($5, $6::bigint))
ORDER BY last_at DESC, id DESC
LIMIT $7
