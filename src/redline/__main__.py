"""`python -m redline` is the command `redline`."""

from redline._cli.main import main

main()
