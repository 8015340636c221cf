"""`prepkd report`: one self-contained HTML page of all results that a project has."""
