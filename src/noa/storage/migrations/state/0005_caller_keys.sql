-- The keys of single callers. ``key`` is the JSON of what is known of it: its SHA-256, never the key itself.

CREATE TABLE caller_keys (
    name TEXT PRIMARY KEY NOT NULL,
    key TEXT NOT NULL
);
