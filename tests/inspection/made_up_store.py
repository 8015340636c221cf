"""Small stores of made-up logits in every encoding."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from prepkd.store import LogitStore
from prepkd.store.attributes import Attributes
from prepkd.store.encodings import Encoding, make_encoding, words_of
from prepkd.store.encodings.measure import measure_encoding
from prepkd.store.layout import Layout
from prepkd.store.place import open_place
from prepkd.store.writer import StoreWriter
from prepkd.views import ViewPlan

VIEWS, SAMPLES, CLASSES = 3, 22, 6
ENCODINGS = {"f16": {}, "u8": {}, "i16": {"step": 2.0**-5}, "topk": {"k": 3}, "sampled": {"n": 4}}


@dataclass(frozen=True)
class MadeUp:
    """A store's folder, and the raw logits (V, N, K) and labels (N,) that it was made from."""

    folder: Path
    raw: torch.Tensor
    labels: torch.Tensor

    @property
    def store(self) -> LogitStore:
        return LogitStore.open(self.folder)


def numbers() -> tuple[torch.Tensor, torch.Tensor]:
    """Random logits, mostly with the maximum at the label; a correct and a wrong row have ties at the maximum."""
    generator = torch.Generator().manual_seed(3)
    raw = 3 * torch.randn(VIEWS, SAMPLES, CLASSES, generator=generator)
    labels = torch.randint(0, CLASSES, (SAMPLES,), generator=generator)
    raw[:, torch.arange(SAMPLES), labels] += 5
    raw[0, 0] = 1.0  # six maxima
    raw[1, 1] = torch.arange(6.0)
    raw[1, 1, [4, 5]] = 7.0  # two maxima
    labels[1] = 2  # neither of them
    raw[:, 2] = -5.0
    raw[:, 2, (labels[2] + 1) % CLASSES] = 5.0  # wrong in every view
    return raw, labels


def write(folder: Path, encoding: str, *, finish: bool = True, chunks: int | None = None) -> MadeUp:
    """Write a store in chunks of 8 samples; only the first `chunks` of its 9 if given."""
    raw, labels = numbers()
    kept: Encoding = make_encoding({"name": encoding} | ENCODINGS[encoding], CLASSES)
    layout = Layout(ViewPlan([{"crop": {"padding": 1}}, "flip"], VIEWS, 7, SAMPLES), kept, 8)
    sections = {
        "dataset": {"name": "made-up", "fingerprint": "d" * 64, "split_fingerprint": "5" * 64, "classes": CLASSES},
        "split": "train",
        "teacher": {"name": "large", "model": "none", "weights_fingerprint": "e" * 64},
        "views": layout.plan.describe(),
        "encoding": kept.describe(),
        "precision": {"arithmetic": "ieee", "batch_size": 4, "device": "cpu, 1 threads"},
    }
    attributes = Attributes.made_from(
        sections, measured=measure_encoding(kept, raw[0], labels, words_of(kept, layout.plan, 0))
    )
    writer = StoreWriter(open_place(folder, write=True), layout, attributes, folder)
    for view, chunk in list(writer.pending())[:chunks]:
        part = layout.slice(chunk)
        writer.write(view, chunk, kept.encode(raw[view, part], labels[part], words_of(kept, layout.plan, view, part)))
    if finish:
        writer.finish(labels.numpy().astype(np.int64))
    return MadeUp(folder, raw, labels)
