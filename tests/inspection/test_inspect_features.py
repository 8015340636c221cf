"""`prepkd inspect` on a store of features: its entry and the statistics of its tensors."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from cached_features import Teacher
from prepkd import FeatureStore
from prepkd.display.console import TextConsole
from prepkd.inspection.inspect import inspect_store
from prepkd.inspection.tables import tables
from prepkd.provenance.store_files import StoreFiles

pytestmark = pytest.mark.usefixtures("one_thread", "hint")


def test_an_inspection_describes_entry_and_tensors(feature_teacher: Teacher, tmp_path: Path) -> None:
    url = feature_teacher.cache().feature_url("t", "at")
    found = inspect_store(
        url,
        StoreFiles(tmp_path, tmp_path),
        views=None,
        tau=4.0,
        student=None,
        distill=lambda: None,
        out=tmp_path,
    )
    assert found.features and [one.name for one in found.features.tensors] == ["at/stage1", "at/stage2", "at/stage3"]
    store = FeatureStore.open(url)
    values = np.stack([store.features(view)["at/stage3"].astype(np.float64) for view in found.features.views_read])
    third = found.features.tensors[2]
    assert third.mean == pytest.approx(values.mean()) and third.std == pytest.approx(values.std())
    assert third.max == max(store.features(view)["at/stage3"].max() for view in range(9))
    json.dumps(found.as_json(), allow_nan=False)
    out = TextConsole(record=True, width=100, file=io.StringIO())
    out.print(tables(found))
    text = out.export_text()
    for phrase in ("entry", "at/stage1", "8 x 8", "stages ['stage1', 'stage2', 'stage3']", "float16", "stated"):
        assert phrase in text, text
