-- Moments are whole microseconds since 1970 in UTC. Options and metrics are JSON in the form they have on the wire.

CREATE TABLE alias_history (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL,
    key TEXT,
    previous TEXT,
    reason TEXT NOT NULL,
    at_us INTEGER NOT NULL
);
CREATE INDEX alias_history_by_name ON alias_history (name, sequence);

CREATE TABLE kept_models (
    key TEXT PRIMARY KEY NOT NULL,
    options TEXT NOT NULL,
    at_us INTEGER NOT NULL
);

CREATE TABLE model_usage (
    key TEXT PRIMARY KEY NOT NULL,
    metrics TEXT NOT NULL,
    access_count INTEGER NOT NULL,
    last_accessed_us INTEGER
);

CREATE TABLE processes (
    nonce TEXT PRIMARY KEY NOT NULL,
    key TEXT NOT NULL,
    generation INTEGER NOT NULL,
    socket_path TEXT NOT NULL,
    pid INTEGER,
    started_at REAL
);
