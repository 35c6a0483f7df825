-- What engines were seen to take of memory. ``engine`` is the JSON of the file, the shape and the build measured.

CREATE TABLE sizes (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    engine TEXT UNIQUE NOT NULL,
    size_bytes INTEGER NOT NULL,
    measured_by TEXT NOT NULL,
    at_us INTEGER NOT NULL
);
