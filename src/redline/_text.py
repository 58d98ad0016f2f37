"""Text of others, made fit for a terminal."""

STAND_IN = "\N{REPLACEMENT CHARACTER}"


def printable(text: object) -> str:
    """The text on one line, with nothing in it that a terminal would obey or that shows one text as another."""
    words = " ".join(str(text).split())
    return "".join(character if character.isprintable() else STAND_IN for character in words)
