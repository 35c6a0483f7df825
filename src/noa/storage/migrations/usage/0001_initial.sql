-- Moments are whole microseconds since 1970 in UTC; durations are in milliseconds; what is not known is NULL.

CREATE TABLE requests (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    request_id TEXT NOT NULL,
    key TEXT NOT NULL,
    at_us INTEGER NOT NULL,
    operation TEXT NOT NULL,
    streamed INTEGER NOT NULL,
    success INTEGER NOT NULL,
    latency_ms REAL NOT NULL,
    ttft_ms REAL,
    overhead_ms REAL,
    prompt_tokens INTEGER,
    completion_tokens INTEGER,
    cached_tokens INTEGER,
    error_code TEXT
);
CREATE INDEX requests_by_time ON requests (at_us);
CREATE INDEX requests_by_key ON requests (key, at_us);

CREATE TABLE profiles (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    key TEXT NOT NULL,
    at_us INTEGER NOT NULL,
    formula_version INTEGER NOT NULL,
    metrics BLOB NOT NULL,
    samples BLOB NOT NULL
);
CREATE INDEX profiles_by_key ON profiles (key, at_us);
