"""Programs that run with privileges over a cell. They are passed as source text and not imported."""
