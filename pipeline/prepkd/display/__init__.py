"""Text and tables for people: terminals, pages, spreadsheets."""
