"""Write docs/reference/params.md and docs/reference/cli.md, from the schema of params.yaml and from the commands: `make docs`."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from prepkd.cli import app
from prepkd.project.schema import json_schema
from prepkd.views import AUGMENTATIONS

FOLDER = Path(__file__).parent / "reference"
MADE = "<!-- Made by `make docs`; change docs/generate.py, params.yaml or the code. -->\n"
Schema = dict[str, Any]


def params_page() -> str:
    """Every key of params.yaml: what it may be, its default, and what its comment says."""
    schema = json_schema()
    parts = [
        "# params.yaml",
        MADE,
        "All settings, section by section. An unknown key, a wrong type or an impossible value is an error that says what is\n"
        "allowed. Any key can be set for one run, its path joined by dots: `prepkd distill -S distill.kd.tau=8`,\n"
        "`dvc exp run -S distill.kd.tau=8`. `prepkd schema` prints the same as a JSON schema, for editors.\n",
    ]
    top = {key: entry for key, entry in schema["properties"].items() if not sections(entry, schema)}
    parts += [table(row(key, entry, key in schema["required"]) for key, entry in top.items() if key != "augment")]
    for key, entry in schema["properties"].items():
        heading = "teachers.NAME" if key == "teachers" else key
        if key == "augment":
            parts += [
                f"## {heading}\n",
                f"A list: {entry['description']}. [views.md](views.md) has each step's pixels.\n",
                steps(),
            ]
        for section in sections(entry, schema):
            parts += [f"## {heading}\n", f"{sentence(section['description'])}\n", table(rows(section, schema))]
    return "\n".join(parts)


def rows(section: Schema, schema: Schema, prefix: str = "", above: str = "") -> Iterator[str]:
    """A row a key, those of sections within after their own; what stands in the row above is not said again."""
    for key, entry in section["properties"].items():
        inner, optional = sections(entry, schema), "anyOf" in entry
        if not inner or optional:
            yield row(f"{prefix}{key}", entry, key in section.get("required", []), above)
        for one in inner:
            yield from rows(one, schema, f"{prefix}{key}.", entry["description"] if optional else "")


def row(key: str, entry: Schema, required: bool, above: str = "") -> str:
    """One key: what it may be, its default, what it says."""
    default = "required" if required else f"`{json.dumps(entry['default'])}`"
    said = "" if entry["description"] == above else cell(entry["description"])
    return f"| `{key}` | {allowed(entry)} | {default} | {said} |"


def table(lines: Iterator[str]) -> str:
    """Rows under their heads."""
    return "\n".join(["| key | allowed | default | what |", "| --- | --- | --- | --- |", *lines, ""])


def steps() -> str:
    """The steps of a recipe with their settings."""
    lines = ["| step | settings | what |", "| --- | --- | --- |"]
    for name, step in AUGMENTATIONS.items():
        own = step.model_json_schema()
        settings = [
            f"`{key}`: {allowed(one)}; `{json.dumps(one['default'])}`" for key, one in own.get("properties", {}).items()
        ]
        lines.append(f"| `{name}` | {'<br>'.join(settings)} | {cell(sentence(own['description']))} |")
    return "\n".join([*lines, ""])


def sections(entry: Schema, schema: Schema) -> list[Schema]:
    """The sections that a key holds, itself or under names."""
    choices = [entry, *entry.get("patternProperties", {}).values(), *entry.get("anyOf", [])]
    return [schema["$defs"][one["$ref"].removeprefix("#/$defs/")] for one in choices if "$ref" in one]


def allowed(entry: Schema) -> str:
    """A type in words."""
    if "anyOf" in entry:
        return " or ".join(allowed(one) for one in entry["anyOf"])
    if "$ref" in entry:
        return "a section"
    if "enum" in entry or "const" in entry:
        values = [f"`{value}`" for value in entry.get("enum", [entry.get("const")])]
        # Of the zoo's thirty names a cell shows the ends; models.md lists them.
        return ", ".join(values if len(values) <= 12 else [values[0], "...", values[-1]])
    kind = entry.get("type")
    if kind == "array" and "object" in [one.get("type") for one in entry.get("items", {}).get("anyOf", [])]:
        return "a recipe, as [augment](#augment)"
    if kind == "array":
        return f"list of {allowed(entry['items'])}" if "items" in entry else "[low, high]"
    words = {
        "integer": "integer",
        "number": "number",
        "boolean": "`true`, `false`",
        "null": "`null`",
        "string": "text",
    }[kind]
    words = "path" if entry.get("format") == "path" else words
    signs = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
    bounds = [f"{sign} {power(entry[key])}" for key, sign in signs.items() if key in entry]
    return f"{words} {', '.join(bounds)}" if bounds else words


def power(bound: float) -> str:
    """A number; a large power of two as that."""
    exponent = int(bound).bit_length() - 1
    return f"2^{exponent}" if bound == 2**exponent and exponent > 16 else f"{bound:g}"


def sentence(description: str) -> str:
    """A docstring's text without its line breaks."""
    return " ".join(description.split())


def cell(text: str) -> str:
    """A text that GitHub shows as it stands, in a table: outside of code `<` begins a tag."""
    return re.sub(r"(`[^`]*`)|<", lambda part: part[1] or "&lt;", text).replace("|", "\\|")


def cli_page() -> str:
    """Every command: what it does, its arguments and options with their defaults."""
    group = typer.main.get_command(app)
    assert isinstance(group, typer.core.TyperGroup)
    commands = group.commands.items()
    parts = [
        "# Commands",
        MADE,
        f"{group.help}\n",
        "`prepkd --version` shows the version, `prepkd COMMAND --help` what stands here.\n",
    ]
    for panel in dict.fromkeys(command.rich_help_panel for _, command in commands):
        mine = {name: command for name, command in commands if command.rich_help_panel == panel}
        parts += [f"**{panel}**: {', '.join(f'[{name}](#prepkd-{name})' for name in mine)}.\n"]
    for name, command in commands:
        context = typer.Context(command, info_name=f"prepkd {name}")
        usage = " ".join(command.collect_usage_pieces(context))
        records = [parameter.get_help_record(context) for parameter in command.params]
        lines = [f"| `{option}` | {cell(said)} |" for option, said in filter(None, records)]
        parts += [f"## prepkd {name}\n", f"    prepkd {name} {usage}\n", f"{command.help}\n"]
        parts += ["\n".join(["| | |", "| --- | --- |", *lines, ""])] if lines else []
    return "\n".join(parts)


PAGES = {"params.md": params_page, "cli.md": cli_page}

if __name__ == "__main__":
    for page, make in PAGES.items():
        (FOLDER / page).write_text(make())
