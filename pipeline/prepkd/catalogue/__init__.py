"""List all terms, and compute a method's cost for a pair of models; for information only, no result depends on it."""
