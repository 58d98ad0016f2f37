"""Programs that run without redline, in a node or as the warden outside; see `load_program`."""
