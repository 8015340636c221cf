"""The logit store: a teacher's answers to every view of every training sample, in Zarr v3."""

from prepkd.store.reader import LogitStore

__all__ = ["LogitStore"]
