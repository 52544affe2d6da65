"""The client of an AutoKV server."""
