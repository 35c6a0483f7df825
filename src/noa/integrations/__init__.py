"""Noa inside other frameworks."""
