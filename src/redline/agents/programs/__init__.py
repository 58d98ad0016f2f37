"""Source text that runs joined to a cell, not imported."""
