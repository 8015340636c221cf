"""The JSON schema of params.yaml, for editors: pydantic's, each key described by its comment in the settings that are shipped."""

from collections.abc import Iterator
from importlib.resources import files
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap

from prepkd.params import Params
from prepkd.views import AUGMENTATIONS

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema() -> dict[str, Any]:
    """The schema as JSON: draft 2020-12, unknown keys refused, every section's keys with type, default and description."""
    schema = Params.model_json_schema()
    schema = {"$schema": DIALECT, "$id": "params.schema.json", **schema, "title": "params.yaml of prepkd"}
    steps = {"items": _steps(schema)}
    schema["properties"]["augment"] |= steps
    schema["$defs"]["Teacher"]["properties"]["augment"]["anyOf"][0] |= steps
    settings = YAML().load(template("params.yaml"))
    _describe(schema, schema, settings)
    return schema


def template(name: str) -> str:
    """A file that the package brings along for new projects."""
    return (files("prepkd") / "templates" / name).read_text(encoding="utf-8")


def comments(settings: CommentedMap) -> Iterator[tuple[str, str]]:
    """The keys of one section and what the comment behind each says."""
    for key in settings:
        behind = settings.ca.items.get(key, [None] * 3)[2]
        first = behind.value.splitlines()[0].strip().removeprefix("#").strip() if behind else ""
        if first:
            yield key, first


def _describe(schema: dict[str, Any], section: dict[str, Any], settings: CommentedMap) -> None:
    """Put the comments of one section, and of those within it, into its schema."""
    said = dict(comments(settings))
    for key, entry in section.get("properties", {}).items():
        entry.pop("title", None)  # the key once more
        if key in said:
            entry["description"] = said[key]
        inner = settings.get(key)
        if isinstance(inner, CommentedMap) and (found := _section(schema, entry)):
            # Under `teachers` stand names; the first one's settings are those that are commented.
            _describe(schema, found, next(iter(inner.values())) if "patternProperties" in entry else inner)


def _section(schema: dict[str, Any], entry: dict[str, Any]) -> dict[str, Any] | None:
    """The schema of the section that a key holds: itself, or in a dict of names."""
    for candidate in (entry, *entry.get("patternProperties", {}).values(), *entry.get("anyOf", [])):
        if "$ref" in candidate:
            section: dict[str, Any] = schema["$defs"][candidate["$ref"].removeprefix("#/$defs/")]
            return section
    return None


def _steps(schema: dict[str, Any]) -> dict[str, Any]:
    """One step of a recipe: a name, or one name with its settings."""
    for name, step in AUGMENTATIONS.items():
        own = step.model_json_schema()
        schema["$defs"].update(own.pop("$defs", {}))
        schema["$defs"][name] = own
    named = {name: {"anyOf": [{"$ref": f"#/$defs/{name}"}, {"type": "null"}]} for name in AUGMENTATIONS}
    settings = {
        "type": "object",
        "properties": named,
        "additionalProperties": False,
        "minProperties": 1,
        "maxProperties": 1,
    }
    return {"anyOf": [{"enum": list(AUGMENTATIONS)}, settings]}
