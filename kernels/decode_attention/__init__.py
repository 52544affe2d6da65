"""Decode attention: one query per head against a compressed cache."""
