"""The frames between a harness and an attendant: channel (4 bytes), kind (1), length (4), payload."""

from __future__ import annotations

import struct

HEADER = struct.Struct(">IBI")
(BEAT, JOIN, CONNECT, LISTEN, DATA, END, CLOSE, CREDIT, WRITE, RELEASE, SIGNAL) = range(11)
READY, ANSWER, OPENED, FAILED, ACCEPTED = range(20, 25)
# Numbers of the channels that the attendant opens, for accepted connections, are above those that the harness opens.
FIRST_OWN_CHANNEL = 1 << 31
WINDOW = 1 << 18
CHUNK = 1 << 15
STREAM_READ = 1 << 18
