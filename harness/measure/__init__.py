"""What happens inside the measuring process, and the worker that starts it; callable without Ray."""
