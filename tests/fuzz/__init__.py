"""Random sequences of agent actions from a grammar, with a truth that follows from their construction."""
