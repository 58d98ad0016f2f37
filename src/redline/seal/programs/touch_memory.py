"""Allocate memory and touch every page of it. The argument is its size in bytes. Runs in a cell, as the agent."""

from __future__ import annotations

import sys

PAGE = 4096

room = bytearray(int(sys.argv[1]))
room[::PAGE] = bytes(len(room[::PAGE]))
