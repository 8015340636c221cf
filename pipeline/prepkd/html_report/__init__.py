"""`prepkd report`: one self-contained HTML page from whatever results a project has."""
