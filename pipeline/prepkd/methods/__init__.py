"""What the student is taught."""
