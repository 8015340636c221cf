"""Distil with the Trainer of Hugging Face's transformers, from cached logits; the loss is that of plain_loop.py.

Needs `pip install 'prepkd[examples]'`. Run it in a project with data/digits.h5 and data/logits/large.zarr.
"""

import tempfile
from collections.abc import Sequence
from typing import Any

import prepkd
import torch
from plain_loop import MODEL, distillation_loss, run
from torch import Tensor, nn
from torch.utils.data import Sampler
from transformers import Trainer, TrainingArguments

OUT = "students/huggingface"


class Distiller(Trainer):
    """A Trainer whose loss compares the student with the teacher's cached logits."""

    def _get_train_sampler(self, *_: Any) -> Sampler[tuple[int, int]]:
        # The Trainer calls the sampler's `set_epoch`, which selects the epoch's view.
        assert isinstance(self.train_dataset, prepkd.ViewDataset)
        return prepkd.ViewSampler(self.train_dataset, self.args.seed)

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, **_: Any
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Return the loss of a batch; with `return_outputs` also the student's logits."""
        logits = model(inputs["images"])
        loss = distillation_loss(logits, inputs["labels"], inputs["teacher_logits"])
        return (loss, logits) if return_outputs else loss


def collate(items: list[tuple[Tensor, int, Tensor]]) -> dict[str, Tensor]:
    """Collate `ViewDataset` items into a batch of named tensors."""
    images, labels, teacher_logits = zip(*items, strict=True)
    return {
        "images": torch.stack(images),
        "labels": torch.tensor(labels),
        "teacher_logits": torch.stack(teacher_logits),
    }


def train(seed: int, epochs: int, data: str, store: str) -> nn.Module:
    """Train one student."""
    torch.manual_seed(seed)
    student = prepkd.build_model(MODEL, 10, in_channels=1)
    with tempfile.TemporaryDirectory() as work:
        settings = TrainingArguments(
            output_dir=work,
            num_train_epochs=epochs,
            per_device_train_batch_size=64,
            learning_rate=0.01,
            lr_scheduler_type="cosine",
            seed=seed,
            remove_unused_columns=False,
            save_strategy="no",
            logging_strategy="no",
            report_to=[],
            disable_tqdm=True,
            dataloader_pin_memory=torch.cuda.is_available(),
        )
        dataset = prepkd.ViewDataset(data, store)
        Distiller(model=student, args=settings, train_dataset=dataset, data_collator=collate).train()
    return student.cpu()


def main(arguments: Sequence[str] | None = None) -> None:
    """Train and save one student per seed."""
    run(train, __doc__, OUT, arguments)


if __name__ == "__main__":
    main()
