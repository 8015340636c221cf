"""A trained model outside of the project: loaded in one line, asked about images, exported."""
