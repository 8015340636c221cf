"""Stores: a teacher's answers to every view of every training sample, in Zarr v3."""

from prepkd.store.reader import AnswerStore, FeatureStore, LogitStore

__all__ = ["AnswerStore", "FeatureStore", "LogitStore"]
