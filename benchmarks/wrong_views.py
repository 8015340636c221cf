"""Train students from cached logits of other pixels than those they see, on the demo's digits and store."""

import argparse
import statistics
from collections.abc import Callable
from pathlib import Path

import prepkd
import torch
from prepkd.data.prepared.file import load_split
from prepkd.losses import kl_divergence
from prepkd.report.significance import corrected, difference_text, paired_difference
from prepkd.runtime.streams import Purpose, torch_seed
from torch import Tensor

from benchmarks._measure import environment, report

# (each sample's view, another view, its unshifted view) -> (the view that the student sees, the view of the logits)
Pairing = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
CASES: dict[str, Pairing] = {
    "the view that is seen": lambda seen, other, plain: (seen, seen),
    "the plain image": lambda seen, other, plain: (seen, plain),
    "another view, drawn": lambda seen, other, plain: (seen, other),
    "the plain image, the only one seen": lambda seen, other, plain: (plain, plain),
}
TAU, EPOCHS, BATCH, LR = 2.0, 30, 64, 0.1  # as in params.yaml


def main(arguments: list[str] | None = None) -> None:
    """Train one student per case and seed; print test top-1, paired differences, and KL on the training views."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.wrong_views", description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("data/digits.h5"))
    parser.add_argument("--store", default="data/logits/large.zarr")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--out", type=Path, help="a JSON file; else JSON goes to standard output")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    surroundings = environment()
    store, train, test = (
        prepkd.LogitStore.open(options.store),
        *(load_split(options.data, s) for s in ("train", "test")),
    )
    images, test_images = (torch.from_numpy(split.images.transpose(0, 3, 1, 2)) for split in (train, test))
    rows = torch.stack([torch.from_numpy(store.plan.parameters(view)) for view in range(store.views)])
    answers = torch.stack([torch.from_numpy(store.logits(view)) for view in range(store.views)])
    pixels = torch.stack([store.plan.render(images, row) for row in rows])
    if not torch.equal(rows[:, 0].unique(dim=0), torch.cartesian_prod(torch.arange(3), torch.arange(3)).to(rows)):
        raise SystemExit("expected the demo's store: all 9 views of `crop: {padding: 1}`")
    plain = (rows == 1).all(dim=-1).int().argmax(dim=0)  # each sample's unshifted view
    shifts = rows[:, :1].expand(-1, len(test_images), -1)
    tests = torch.stack([store.plan.render(test_images, row) for row in shifts])
    labels = torch.from_numpy(test.labels)

    def scores(case: str, seed: int) -> dict[str, float]:
        student = taught(CASES[case], pixels, answers, plain, seed, options.epochs)
        with torch.no_grad():
            right = torch.stack([student(view).argmax(dim=1) == labels for view in tests]).double() * 100
            apart = [kl_divergence(student(x), target_logits=t, tau=TAU) for x, t in zip(pixels, answers, strict=True)]
        return {
            "plain": right[plain[0]].mean().item(),
            "shifted": right.mean().item(),
            "kl": torch.cat(apart).double().mean().item() / TAU**2,
        }

    found = {case: [scores(case, seed) for seed in range(options.seeds)] for case in CASES}
    wrong = (answers.argmax(dim=-1) != torch.from_numpy(train.labels)).double() * 100
    result = surroundings | {
        "command": "python -m benchmarks.wrong_views",
        "seeds": options.seeds,
        "epochs": options.epochs,
        "top1": found,
        "teacher_error_on_plain_images": wrong.gather(0, plain[None]).mean().item(),
        "teacher_error_on_all_views": wrong.mean().item(),
    }
    report(result, {f"test top-1 over {options.seeds} seeds": table(found)}, options.out)


def taught(case: Pairing, pixels: Tensor, answers: Tensor, plain: Tensor, seed: int, epochs: int) -> torch.nn.Module:
    """Train a student by distillation alone, on pixels float32 (V, N, C, H, W) and teacher logits float32 (V, N, K)."""
    draw = torch.Generator().manual_seed(torch_seed(seed, Purpose.RANDOM_VIEWS.stream()))
    torch.manual_seed(torch_seed(seed, Purpose.STUDENT_WEIGHTS.stream()))
    student = prepkd.build_model("convnet8", answers.shape[-1], in_channels=pixels.shape[2])
    views, samples = answers.shape[:2]
    optimizer = torch.optim.SGD(student.parameters(), LR, momentum=0.9, weight_decay=5e-4)
    steps = -(-samples // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LR, total_steps=epochs * steps, cycle_momentum=False)
    for _ in range(epochs):
        seen = torch.randint(views, (samples,), generator=draw)
        other = (seen + torch.randint(1, views, (samples,), generator=draw)) % views
        shown, answered = case(seen, other, plain)
        for batch in torch.randperm(samples, generator=draw).split(BATCH):
            logits = student(pixels[shown[batch], batch])
            loss = kl_divergence(logits, target_logits=answers[answered[batch], batch], tau=TAU).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return student.eval()


def table(found: dict[str, list[dict[str, float]]]) -> tuple[list[str], list[list[str]]]:
    """Return header and rows: mean +- standard deviation, paired difference from the first case, mean KL."""
    first = next(iter(found))
    rows = [[case] for case in found]
    for images in ("plain", "shifted"):
        top1 = {case: [score[images] for score in values] for case, values in found.items()}
        others = corrected({case: paired_difference(top1[case], top1[first]) for case in found if case != first})
        for row, (case, values) in zip(rows, top1.items(), strict=True):
            text = difference_text(others[case]) if case in others else ""
            row += [f"{statistics.mean(values):.2f} +- {statistics.stdev(values):.2f}", text]
    for row, values in zip(rows, found.values(), strict=True):
        row.append(f"{statistics.mean(score['kl'] for score in values):.3f}")
    head = [
        "the teacher answers",
        "plain test images, %",
        "minus the first",
        "all 9 shifts of them, %",
        "minus the first",
    ]
    return [*head, "KL from the teacher"], rows


if __name__ == "__main__":
    main()
