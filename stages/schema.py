"""schema: the JSON schema of params.yaml on standard output."""

import json

import typer
from prepkd.project.schema import json_schema


def schema() -> None:
    """Print the JSON schema of params.yaml, with which editors complete and check it.

    `prepkd init` writes it as params.schema.json; after an update: `prepkd schema > params.schema.json`.
    """
    typer.echo(json.dumps(json_schema(), indent=2))
