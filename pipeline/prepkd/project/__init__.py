"""A project's files: settings, their JSON schema, the scaffold."""
