"""Programs that run with privileges over a cell."""
