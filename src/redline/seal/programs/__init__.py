"""Programs of the standard library alone that run on their own: in a node, and as the warden outside."""
