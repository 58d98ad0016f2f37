"""Programs that are run joined to a cell."""
