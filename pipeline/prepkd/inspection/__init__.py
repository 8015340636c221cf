"""Inspection of a logit store: its description, statistics of its logits, tables and a picture."""
