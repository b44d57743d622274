"""The measuring process, and the worker that starts it; callable without Ray."""
