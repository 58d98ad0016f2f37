"""JSON Schemas of the documents that redline writes, generated from their models and shipped in this folder."""

import ast
import inspect
import itertools
import json
import textwrap
from collections.abc import Mapping
from importlib.resources import files

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from redline._python_source import parse_python
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
    schema = DOCUMENTS[document].model_json_schema(
        by_alias=True, mode="serialization", schema_generator=_WithDocstrings
    )
    return json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}, indent=1) + "\n"


def shipped(document: str) -> str:
    """Return the shipped schema of a document."""
    return files("redline.schemas").joinpath(file_name(document)).read_text(encoding="utf-8")


class _WithDocstrings(GenerateJsonSchema):
    """Generate schemas in which the docstrings of attributes are the descriptions of the properties."""

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        found = super().model_schema(schema)
        model: type[BaseModel] = schema["cls"]
        for name, text in _docstrings(model).items():
            if name in model.model_fields:
                info = model.model_fields[name]
                key = info.serialization_alias or info.alias or name
                found["properties"][key].setdefault("description", text)
        return found


def _docstrings(model: type[BaseModel]) -> dict[str, str]:
    """Return the docstrings of a model's attributes, with those of its base classes, by name."""
    texts: dict[str, str] = {}
    for kind in reversed(model.__mro__):
        if not issubclass(kind, BaseModel) or kind is BaseModel:
            continue
        (made,) = parse_python(textwrap.dedent(inspect.getsource(kind))).body
        assert isinstance(made, ast.ClassDef)
        for attribute, after in itertools.pairwise(made.body):
            if isinstance(attribute, ast.AnnAssign) and isinstance(attribute.target, ast.Name):
                match after:
                    case ast.Expr(value=ast.Constant(value=str(text))):
                        texts[attribute.target.id] = inspect.cleandoc(text)
    return texts
