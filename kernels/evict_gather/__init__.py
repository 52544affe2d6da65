"""Compaction: the kept tokens of every row, moved together."""
