"""schema: the JSON schema of params.yaml on standard output."""

import json

import typer


def schema() -> None:
    """Print the JSON schema of params.yaml, which editors use to complete and to check it.

    A project that `prepkd init` made has it as params.schema.json; after an update: `prepkd schema > params.schema.json`.
    """
    from prepkd.project.schema import json_schema

    typer.echo(json.dumps(json_schema(), indent=2))
