"""JSON Schemas of the documents that redline writes, generated from their models and shipped in this folder."""

import json
from collections.abc import Mapping
from importlib.resources import files

from pydantic import BaseModel

from redline.plan import Plan
from redline.results import Results
from redline.run.signature import Signature
from redline.verify.evidence import Evidence

DOCUMENTS: Mapping[str, type[BaseModel]] = {
    "results": Results,
    "plan": Plan,
    "evidence": Evidence,
    "signature": Signature,
}
"""The documents with a schema."""


def file_name(document: str) -> str:
    """Return the file name of a document's schema."""
    return f"{document}.schema.json"


def generated(document: str) -> str:
    """Generate the schema of a document from its model."""
    schema = DOCUMENTS[document].model_json_schema(by_alias=True, mode="serialization")
    return json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}, indent=1) + "\n"


def shipped(document: str) -> str:
    """Return the shipped schema of a document."""
    return files("redline.schemas").joinpath(file_name(document)).read_text(encoding="utf-8")
