"""Other people's hosts, imitated on this one: in mounts of the test's own, with fake runtimes and injected faults."""
