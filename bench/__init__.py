"""Measurements of Noa from outside, each against the same work done without it. None is a test: see README.md."""
