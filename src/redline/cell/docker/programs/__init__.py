"""Programs that run on their own: inside a Docker cell, or beside the harness as its warden."""
