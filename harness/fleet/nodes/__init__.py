"""Make this machine a node of a fleet: start Ray here with the right tags, ports and token, and stop it."""
