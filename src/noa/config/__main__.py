"""Writes the JSON Schema of ``noa.yaml``: ``python -m noa.config > docs/noa.schema.json``."""

import sys

from noa.config.settings import json_schema

if __name__ == "__main__":
    sys.stdout.buffer.write(json_schema())
