"""Noa inside other people's frameworks."""
