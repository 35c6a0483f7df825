-- What requests cost, in USD; NULL where it is not known. Sums are kept by the hour for longer than the requests are:
-- those of tokens and costs are over the requests where they are known, and counted is how many those are.

ALTER TABLE requests ADD COLUMN cache_write_tokens INTEGER;
ALTER TABLE requests ADD COLUMN reasoning_tokens INTEGER;
ALTER TABLE requests ADD COLUMN cost_usd REAL;
ALTER TABLE requests ADD COLUMN caller TEXT;

CREATE TABLE usage_hours (
    hour_us INTEGER NOT NULL,
    key TEXT NOT NULL,
    caller TEXT NOT NULL,
    requests INTEGER NOT NULL,
    failures INTEGER NOT NULL,
    prompt_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL,
    cached_tokens INTEGER NOT NULL,
    counted INTEGER NOT NULL,
    cost_usd REAL NOT NULL,
    priced INTEGER NOT NULL,
    PRIMARY KEY (hour_us, key, caller)
) WITHOUT ROWID;

-- What was served before is known by its requests; their cost is not.
INSERT INTO usage_hours
SELECT at_us - at_us % 3600000000, key, '', count(*), sum(NOT success), ifnull(sum(prompt_tokens), 0),
    ifnull(sum(completion_tokens), 0), ifnull(sum(cached_tokens), 0), count(completion_tokens), 0, 0
FROM requests GROUP BY 1, 2;
