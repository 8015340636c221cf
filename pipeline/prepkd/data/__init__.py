"""Data: image files, raw data sources, the prepared HDF5 file, and samples on the training device."""
