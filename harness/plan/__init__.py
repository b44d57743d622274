"""What to measure: configuration, cases, blocks, and how long they take."""
