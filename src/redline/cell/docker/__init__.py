"""Cells made by a Docker engine through Inspect's own docker provider, with a compose file and an image of redline."""
