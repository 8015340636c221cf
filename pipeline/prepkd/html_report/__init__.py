"""`prepkd report`: one self-contained HTML page of all results of a project."""
