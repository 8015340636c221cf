"""Compare the first batch of a view with the live teacher, before training reads the store."""

import numpy as np

from prepkd.data.samples.samples import Samples
from prepkd.errors import InputError
from prepkd.models import Normalised
from prepkd.store import AnswerStore
from prepkd.verification.comparison import make_comparison
from prepkd.verification.query import Query, batch_size


def check_first_batch(store: AnswerStore, teacher: Normalised, samples: Samples, view: int) -> None:
    """Compare one batch of a view, of logits or of features, with the live teacher; raises InputError if the store differs."""
    chosen = np.arange(min(batch_size(store), store.samples))
    views = np.full(len(chosen), view)
    query = Query.of(teacher, store.plan, samples, views, chosen)
    compared = make_comparison(store, store.rows(views, chosen), query, store.attributes.precision.arithmetic)
    found = compared.compare_teacher()
    if not found.within:
        raise InputError(
            f"{store.url}: view {view}, samples 0 to {len(chosen) - 1}: {found.fault}; `prepkd verify {store.url}` looks "
            "closer"
        )
