"""Cells made by a runtime that takes a specification of the Open Container Initiative: runc, crun and gVisor."""
