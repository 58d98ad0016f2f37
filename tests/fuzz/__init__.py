"""Sequences of agent actions made at random from a grammar, with a truth that follows from how they were made."""
