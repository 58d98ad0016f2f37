"""Regenerate the shipped schemas: `python -m redline.schemas`."""

from pathlib import Path

from redline.schemas import DOCUMENTS, file_name, generated

for document in DOCUMENTS:
    Path(__file__).with_name(file_name(document)).write_text(generated(document), encoding="utf-8")
