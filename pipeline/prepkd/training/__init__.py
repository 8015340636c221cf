"""Training teachers and students."""
