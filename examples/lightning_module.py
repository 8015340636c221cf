"""Distil in PyTorch Lightning, from cached logits; the loss is that of plain_loop.py.

Needs `pip install 'prepkd[examples]'`. Run it in a project with data/digits.h5 and data/logits/large.zarr.
"""

import logging
from collections.abc import Sequence
from typing import Any

import prepkd
import pytorch_lightning as pl
import torch
from plain_loop import MODEL, distillation_loss, run
from torch import Tensor, nn
from torch.utils.data import DataLoader

OUT = "students/lightning"


class Distillation(pl.LightningModule):
    """A student and its training step on batches (images, labels, teacher logits)."""

    def __init__(self, lr: float = 0.1) -> None:
        super().__init__()
        self.lr = lr
        self.student = prepkd.build_model(MODEL, 10, in_channels=1)

    def training_step(self, batch: tuple[Tensor, Tensor, Tensor], batch_idx: int) -> Tensor:
        """Return the loss of a batch."""
        images, labels, teacher_logits = batch
        return distillation_loss(self.student(images), labels, teacher_logits)

    def configure_optimizers(self) -> dict[str, Any]:
        """SGD under a one-cycle schedule."""
        optimizer = torch.optim.SGD(self.parameters(), lr=self.lr, momentum=0.9, weight_decay=5e-4)
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=self.lr, total_steps=steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def train(seed: int, epochs: int, data: str, store: str) -> nn.Module:
    """Train one student."""
    torch.manual_seed(seed)
    module = Distillation()
    dataset = prepkd.ViewDataset(data, store)
    # Lightning calls the sampler's `set_epoch`, which selects the epoch's view.
    loader = DataLoader(dataset, batch_size=64, sampler=prepkd.ViewSampler(dataset, seed))
    trainer = pl.Trainer(
        max_epochs=epochs,
        accelerator="auto",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, loader)
    return module.student


def main(arguments: Sequence[str] | None = None) -> None:
    """Train and save one student per seed."""
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    run(train, __doc__, OUT, arguments)


if __name__ == "__main__":
    main()
