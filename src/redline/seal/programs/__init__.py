"""Programs of the standard library alone that run on their own: in a host, and as the warden outside."""
