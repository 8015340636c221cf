"""The JSON schema of params.yaml for editors: pydantic's schema, with the comments of the shipped settings as descriptions."""

from collections.abc import Iterator
from importlib.resources import files
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap

from prepkd.distillation.generation_settings import GenerationSettings
from prepkd.project.params import Params
from prepkd.training.settings import Training
from prepkd.views import AUGMENTATIONS

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema() -> dict[str, Any]:
    """Return the schema (draft 2020-12): it refuses unknown keys, and gives every key's type, default and description."""
    schema = Params.model_json_schema()
    schema = {"$schema": DIALECT, "$id": "params.schema.json", **schema, "title": "params.yaml of prepkd"}
    steps = {"items": _steps(schema)}
    for recipe in ("augment", "augment_strong"):
        schema["properties"][recipe] |= steps
    schema["$defs"]["Teacher"]["properties"]["augment"]["anyOf"][0] |= steps
    settings = YAML().load(template("params.yaml"))
    _describe(schema, schema, settings)
    teacher, student, generation = (
        schema["$defs"][name]["properties"] for name in ("Teacher", "Distill", "Generation")
    )
    for key in Training.model_fields:  # a comment beside either describes both
        for one, other in ((teacher[key], student[key]), (student[key], teacher[key])):
            if "description" in other:
                one.setdefault("description", other["description"])
    for key, entry in generation.items():
        entry.pop("title", None)
        if key not in GenerationSettings.__annotations__:  # as `distill` has it
            generation[key] = student[key]
    return schema


def template(name: str) -> str:
    """Read a file that the package ships for new projects."""
    return (files("prepkd") / "project" / "templates" / name).read_text(encoding="utf-8")


def comments(settings: CommentedMap) -> Iterator[tuple[str, str]]:
    """Yield the keys of one section that have a comment behind them, with its text."""
    for key in settings:
        behind = settings.ca.items.get(key, [None] * 3)[2]
        first = behind.value.splitlines()[0].strip().removeprefix("#").strip() if behind else ""
        if first:
            yield key, first


def _describe(schema: dict[str, Any], section: dict[str, Any], settings: CommentedMap, of_all: str = "") -> None:
    """Add the comments of one section, and of nested ones, to its schema; `of_all` is the comment that its keys share."""
    said = dict(comments(settings))
    for key, entry in section.get("properties", {}).items():
        entry.pop("title", None)  # repeats the key
        if text := said.get(key, entry.get("description", of_all)):
            entry["description"] = text
        if found := _section(schema, entry):
            inner = settings.get(key) or CommentedMap()
            if "patternProperties" in entry:  # names, as under `teachers`: the first one's settings carry the comments
                if not inner:  # none shown, as under `generations`
                    continue
                inner = next(iter(inner.values()))
            # A section on one line, or one that is not shown, shares its comment with its keys.
            _describe(schema, found, inner, "" if inner and not inner.fa.flow_style() else text)


def _section(schema: dict[str, Any], entry: dict[str, Any]) -> dict[str, Any] | None:
    """Return the schema of the section that a key holds, itself or under names; None for other keys."""
    for candidate in (entry, *entry.get("patternProperties", {}).values(), *entry.get("anyOf", [])):
        if "$ref" in candidate:
            section: dict[str, Any] = schema["$defs"][candidate["$ref"].removeprefix("#/$defs/")]
            return section
    return None


def _steps(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of one step of a recipe: a name, or a name with its settings."""
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
