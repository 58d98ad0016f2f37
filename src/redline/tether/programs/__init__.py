"""Programs that run inside a cell: copied as text, standard library only."""
