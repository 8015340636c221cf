"""Distil in a plain PyTorch loop, from cached logits: Knowledge Adjustment and a dynamic temperature.

Run it in a project with data/digits.h5 and data/logits/large.zarr; examples/README.md has the commands.
"""

import argparse
from collections.abc import Callable, Sequence

import prepkd
import torch
from prepkd import losses
from torch import Tensor, nn
from torch.utils.data import DataLoader

DATA, STORE, OUT = "data/digits.h5", "data/logits/large.zarr", "students/plain"
MODEL = "convnet8"


def distillation_loss(logits: Tensor, labels: Tensor, teacher_logits: Tensor) -> Tensor:
    """Return the ka-ps+dtd-flsw loss, a scalar: wrong teacher logits are corrected, and tau is lower where both disagree."""
    weights = losses.flsw_weights(logits, teacher_logits, gamma=1.0)
    tau = losses.dynamic_temperature(weights, tau_0=2.0, beta=2.0, tau_min=1.0, tau_max=40.0)
    target = losses.probability_shift(teacher_logits, labels)
    return losses.kl_divergence(logits, target_logits=target, tau=tau).mean()


def train(seed: int, epochs: int, data: str, store: str) -> nn.Module:
    """Train one student; only the seed differs between students."""
    torch.manual_seed(seed)
    student = prepkd.build_model(MODEL, 10, in_channels=1)
    dataset = prepkd.ViewDataset(data, store)
    sampler = prepkd.ViewSampler(dataset, seed)  # yields (sample, view): each epoch shows another view
    loader = DataLoader(dataset, batch_size=64, sampler=sampler)
    optimizer = torch.optim.SGD(student.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=epochs * len(loader))
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        for images, labels, teacher_logits in loader:
            loss = distillation_loss(student(images), labels, teacher_logits)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return student


def run(
    train: Callable[[int, int, str, str], nn.Module], description: str | None, out: str, arguments: Sequence[str] | None
) -> None:
    """Train and save one student per seed with `train`; shared by the examples."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--data", default=DATA, help="prepared data")
    parser.add_argument("--store", default=STORE, help="the teacher's logits of them: a folder or a URL")
    parser.add_argument("--out", default=out, help="one folder per seed is written there")
    asked = parser.parse_args(arguments)
    torch.set_num_threads(1)  # a student as small as this one is faster on one processor
    for seed in range(asked.seeds):
        student = train(seed, asked.epochs, asked.data, asked.store)
        prepkd.save(f"{asked.out}/seed{seed}", student, MODEL, asked.data, seed=seed)
        print(f"{asked.out}/seed{seed}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Train and save one student per seed."""
    run(train, __doc__, OUT, arguments)


if __name__ == "__main__":
    main()
