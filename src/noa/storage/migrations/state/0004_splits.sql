-- The aliases whose requests are split among several models. ``split`` is the JSON of who gets how much.

CREATE TABLE splits (
    alias TEXT PRIMARY KEY NOT NULL,
    split TEXT NOT NULL
);
