"""Definitions that replace some of those of a node's first process, one file per injected defect."""
