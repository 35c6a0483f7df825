-- What real requests have shown of models: the latest of each. ``probe`` is its JSON.

CREATE TABLE probes (
    key TEXT NOT NULL,
    capability TEXT NOT NULL,
    probe TEXT NOT NULL,
    PRIMARY KEY (key, capability)
);
