"""Parts of a plan: split it, run a part in a folder of its own, run parts in local workers, and merge them."""
