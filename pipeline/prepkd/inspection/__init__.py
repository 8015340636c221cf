"""What is in a store: facts, figures, tables, pictures."""
