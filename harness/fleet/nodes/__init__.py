"""Making this machine a node of a fleet: starting Ray here with the right tags, ports and token, and stopping it."""
