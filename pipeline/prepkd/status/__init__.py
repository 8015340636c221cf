"""The state of a project's pipeline: which stages are done, out of date or missing, and what to run next."""
