"""Name the model and the setting in the error about a feature that a model does not have."""

import contextlib
from collections.abc import Iterable, Iterator

from prepkd.errors import InputError
from prepkd.methods.term import FeatureTerm
from prepkd.models.features import AFFINE, UnknownFeatureError


@contextlib.contextmanager
def features_of(whose: str, terms: Iterable[FeatureTerm | None]) -> Iterator[None]:
    """Turn an UnknownFeatureError into an InputError that starts with the model, `whose`, and the place that names the feature.

    `terms` are those whose features are read; None stands for an entry of `cache.features`.
    """
    try:
        yield
    except UnknownFeatureError as error:
        readers = (term for term in terms if term and error.feature in term.features_of_teacher)
        place = next((named_by(term, error.feature) for term in readers), "cache.features")
        raise InputError(f"{whose}, {place}: {error}") from None


def named_by(term: FeatureTerm, feature: str) -> str:
    """The setting that names a feature of a term, or the term itself if none does.

    >>> from prepkd.methods.attention_transfer import AttentionTransfer
    >>> named_by(AttentionTransfer(), "stage2"), named_by(AttentionTransfer(), "pooled")
    ('distill.at.stages', 'term at')
    """
    name = feature.removesuffix(AFFINE)
    for key, value in term:
        if value == name or (isinstance(value, list | tuple) and name in value):
            return f"distill.{term.section or f'own.{term.name}'}.{key}"
    return f"term {term.name}"
