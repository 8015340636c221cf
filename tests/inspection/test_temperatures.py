"""DTD's temperatures in `prepkd inspect` against the equations, written out sample by sample."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from inspected import naive_softmax, read, settings, student
from made_up_store import CLASSES, SAMPLES, MadeUp
from prepkd.errors import InputError
from prepkd.inspection.temperatures import dtd_temperatures
from prepkd.models import Normalised
from prepkd.views.order import sample_order


def naive_temperatures(made: MadeUp, model: Normalised, views: list[int]) -> dict[str, list[tuple[float, float]]]:
    """The paper's equations sample by sample; method -> list of (temperature, clamped temperature)."""
    found: dict[str, list[tuple[float, float]]] = {"dtd-flsw": [], "dtd-cwsm": []}
    images = torch.from_numpy(read(made)[0].images).permute(0, 3, 1, 2)
    for view in views:
        plan = made.store.plan
        teacher = made.store.logits(view).astype(np.float64).tolist()
        with torch.no_grad():
            pixels = plan.render(images, torch.from_numpy(plan.parameters(view)))
            given = model(pixels).double().tolist()
        order = sample_order(0, view, SAMPLES).tolist()
        for start in range(0, SAMPLES, 7):
            batch = order[start : start + 7]
            weights: dict[str, list[float]] = {"dtd-flsw": [], "dtd-cwsm": []}
            for i in batch:
                dot = sum(a * b for a, b in zip(given[i], teacher[i], strict=True))
                norms = [math.sqrt(sum(a * a for a in row)) for row in (given[i], teacher[i])]
                weights["dtd-flsw"].append(max(0.0, 1 - dot / (norms[0] * norms[1])) ** 1.5)
                weights["dtd-cwsm"].append(1 / max(naive_softmax(given[i], 1.0)))
            for (method, values), beta in zip(weights.items(), (2.0, 0.3), strict=True):
                for w in values:
                    wanted = 3.0 + beta * (sum(values) / len(values) - w)
                    found[method].append((wanted, min(max(wanted, 2.9), 3.2)))
    return found


def test_temperatures(made: MadeUp, tmp_path: Path) -> None:
    model = student(tmp_path / "student")
    split, _ = read(made)
    report = dtd_temperatures(
        made.store, [0, 2], tmp_path / "student", split, settings(), torch.device("cpu")
    ).as_json()
    assert report["batch_size"] == 7 and report["rows"] == 2 * SAMPLES
    every = naive_temperatures(made, model, [0, 2])
    low, high = (pick(tau for rows in every.values() for _, tau in rows) for pick in (min, max))
    assert (report["edges"][0], report["edges"][-1]) == pytest.approx((low, high))
    for method, rows in every.items():
        found, taus = report["methods"][method], [tau for _, tau in rows]
        assert found["mean"] == pytest.approx(sum(taus) / len(taus), abs=1e-5)
        assert (found["min"], found["max"]) == pytest.approx((min(taus), max(taus)), abs=1e-5)
        floor, ceiling = (sum(test(w) for w, _ in rows) for test in (lambda w: w < 2.9, lambda w: w > 3.2))
        assert found["at_floor"] == pytest.approx(floor / len(rows))
        assert found["at_ceiling"] == pytest.approx(ceiling / len(rows))
        assert found["clamped"] == pytest.approx((floor + ceiling) / len(rows))
        assert sum(found["histogram"]) == 2 * SAMPLES
    assert all(report["methods"]["dtd-flsw"][key] > 0 for key in ("at_floor", "at_ceiling")), "the clamp must be tried"


def test_a_student_of_other_classes_is_refused(f16: MadeUp, tmp_path: Path) -> None:
    student(tmp_path / "student", CLASSES + 1)
    with pytest.raises(InputError, match="num_classes is 7, expected 6; name a student of this data set"):
        dtd_temperatures(f16.store, [0], tmp_path / "student", read(f16)[0], settings(), torch.device("cpu"))
