"""Junk for the codecs."""
