"""Run the command `redline` as `python -m redline`."""

from redline._cli.main import main

main()
