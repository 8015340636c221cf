"""Data: image files, sources (what is read), the prepared HDF5 file, and samples on the training device."""
