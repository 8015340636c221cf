"""Use a trained model outside of its project: load it in one line, predict images, export it."""
