"""Programs that run on their own, in a node or on the host. They use the standard library only."""
