"""Reports of a run: metrics, the comparison's tables and picture, the data of DVC's plots."""
