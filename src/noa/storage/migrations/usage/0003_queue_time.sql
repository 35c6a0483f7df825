-- How long requests waited for their model, its load included, in milliseconds; NULL where it was not measured.

ALTER TABLE requests ADD COLUMN queue_ms REAL;
