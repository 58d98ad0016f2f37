"""Programs that run on their own: inside a Docker cell, or as the harness's warden."""
