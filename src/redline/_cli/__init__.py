"""The command line. One file per command; each command imports what it needs when it runs."""
