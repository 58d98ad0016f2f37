"""The command `redline`: one file a command, each loading what it needs only when it is called."""
