"""Statistical rules for comparisons and alarms. Arrays in, dataclasses out; no files, no SQL."""
