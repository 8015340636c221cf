"""Data sources: what raw files are read, and how they come here."""
