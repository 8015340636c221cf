"""Compute the tensors of a store of features with a live teacher."""

from torch import Tensor

from prepkd.errors import refuse_differences
from prepkd.models.features import WithFeatures
from prepkd.provenance.features import entry_of
from prepkd.store import FeatureStore
from prepkd.teacher.forward_pass import forward, to_eval
from prepkd.verification.query import Query, arithmetic_of, batch_size


def live_features(store: FeatureStore, query: Query) -> dict[str, Tensor]:
    """The store's tensors (N, ...) of the live teacher's features on the CPU, by name, in the store's batches and precision.

    Raises InputError for a feature that the teacher does not have, and for tensors of other shapes than the store's.
    """
    entry = entry_of(store)
    found = forward(
        WithFeatures(to_eval(query.model), entry.features),
        query.pictures(store),
        batch_size=batch_size(store),
        precision=arithmetic_of(store),
        teacher_tensors=entry.teacher_tensors,
    )
    asked = {name: values.cpu() for name, values in found.items() if name != "logits" or name in store.tensors}
    shapes = {name: tuple(values.shape[1:]) for name, values in asked.items()}
    refuse_differences(
        {"encoding.tensors": (store.tensors, shapes)},
        store.url,
        f"run `prepkd cache-features {store.attributes.teacher.name}`",
    )
    return asked
