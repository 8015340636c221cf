"""One flat training loop, for teachers and students alike."""

import copy
import time
from collections.abc import Callable
from math import nan
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from prepkd.data.samples.dataset import Dataset
from prepkd.errors import InputError
from prepkd.runtime import distributed
from prepkd.runtime.clock import elapsed
from prepkd.runtime.prefetch import prefetch
from prepkd.runtime.torch_state import deterministic_kernels, float32_precision, fork_rng
from prepkd.training.batch_norm import check_shares, restore
from prepkd.training.batches import Epochs, batches
from prepkd.training.checkpoints import Row, pack, resume, write_state
from prepkd.training.compilation import SampleValues, make_cache_folder
from prepkd.training.evaluation import evaluate
from prepkd.training.optimisers import make_average, make_optimizer, make_schedule
from prepkd.training.progress import BatchProgress, OnStep, ignore_progress
from prepkd.training.settings import Training
from prepkd.training.step import TrainingObjective, make_gradients
from prepkd.training.stopping import evaluates, is_over, kept_epoch

PERCENTILES = 5, 25, 50, 75, 95  # of the temperature, by epoch


def train(
    model: nn.Module,
    objective: TrainingObjective,
    dataset: Dataset,
    epochs: Epochs,
    settings: Training,
    *,
    checkpoint: Path,
    on_epoch: Callable[[Row], None],
    on_step: OnStep = ignore_progress,
) -> list[Row]:
    """Train `model` in place on an objective and return a row of figures per epoch; resumes from `checkpoint`.

    With several processes, each computes its share of every batch and the first one writes checkpoints; weights, figures and
    returned rows are the same in all. All randomness is a function of (seed, epoch), so a resumed run ends with the weights of
    an uninterrupted one. The final weights are the evaluated ones: the averaged weights with `ema`, those of the best epoch on
    val with `early_stop`. Raises InputError when the loss, or in the end a held-out logit, is not finite, and for early
    stopping without a val split.
    """
    if settings.early_stop and "val" not in dataset.held_out:
        raise InputError(
            "early_stop watches val, and the data has none; expected prepare.val_fraction > 0, e.g. 0.1, and "
            "`prepkd prepare` again, or early_stop: null"
        )
    device, count = dataset.samples.device, len(dataset.samples)
    if settings.batch_norm == "local":
        check_shares(count, settings.batch_size)
    group = settings.batch_size * settings.accumulate  # samples per step
    steps = -(-count // group)
    make_cache_folder(settings)
    model.to(memory_format=torch.channels_last)
    trained = nn.ModuleList([model, objective])  # type: ignore[list-item]
    optimizer = make_optimizer(settings.optimizer, trained, settings)
    schedule = make_schedule(settings.schedule, optimizer, settings, steps)
    state: dict[str, Any] = {"model": model, "objective": objective, "optimizer": optimizer, "schedule": schedule}
    evaluated = model
    if settings.ema:
        state["average"] = average = make_average(model, settings.ema)
        evaluated = average.module
    if settings.early_stop:
        state["best"] = copy.deepcopy(evaluated)
    gradients = make_gradients(model, objective, epochs.answer_names, settings, device, settings.epochs * steps)
    history = resume(checkpoint, state, device)
    for row in history:
        on_epoch(row)
    unsaved = b""
    fed = prefetch(map(epochs.read, range(len(history), settings.epochs)), epochs.prefetch_depth)
    # `float32` is what it says; under `bf16` the step casts what it may, and the rest is float32.
    with fork_rng(device), deterministic_kernels(settings.deterministic), float32_precision("ieee"):
        try:
            while not is_over(settings, history):
                number, started = len(history), time.perf_counter()
                torch.manual_seed(epochs.dropout_seed(number))
                lr = float(schedule.get_last_lr()[0])
                objective.epoch.fill_(number)
                trained.train()
                figures: SampleValues = {}
                done = 0
                for batch in batches(dataset, next(fed), epochs.answer_names, settings.batch_size, group):
                    # Per-sample values stay on the device until the epoch ends: no step waits for a number.
                    note(figures, gradients(*batch), done, count)
                    done += len(batch[1])
                    on_step(BatchProgress(number, done, count, figures))
                    if done % group and done < count:
                        continue
                    if settings.clip_grad_norm:
                        nn.utils.clip_grad_norm_(trained.parameters(), settings.clip_grad_norm)
                    optimizer.step()
                    optimizer.zero_grad(set_to_none=device.type != "cuda")  # a CUDA graph adds to gradients in place
                    schedule.step()
                    if settings.ema:
                        average.update_parameters(model)
                row = summarise(figures) | {"epoch": float(number), "lr": lr}
                row["samples_per_second"] = count / elapsed(started)
                if settings.batch_norm == "local":
                    # `evaluated` may be the average; in one order in all processes.
                    running = dict.fromkeys([*model.buffers(), *evaluated.buffers()])
                    distributed.mean_over_processes([one for one in running if one.is_floating_point()])
                if not np.isfinite(row["train/loss"]):
                    raise InputError(
                        f"epoch {number}: the training loss is {row['train/loss']}; lower lr ({settings.lr:g})"
                    )
                if evaluates(settings, number):
                    row |= evaluate(evaluated, dataset.held_out)
                history.append(row)
                if settings.early_stop and kept_epoch(settings, history) == number:
                    state["best"].load_state_dict(evaluated.state_dict())
                # Pack every epoch: a signal during the next one must save this one, after the parts have changed.
                unsaved = pack(state, history) if distributed.is_main_process() else b""
                if unsaved and ((number + 1) % settings.checkpoint_every == 0 or is_over(settings, history)):
                    write_state(checkpoint, unsaved)
                    unsaved = b""
                on_epoch(row)
        except BaseException:
            # A signal, exhausted memory, a lost server: save the last finished epoch, also between two checkpoints.
            if unsaved:
                write_state(checkpoint, unsaved)
            raise
    restore(model)
    kept = state.get("best", evaluated)
    # The loss is that before the last update, and in training mode.
    if any(f"{name}/top1" not in history[kept_epoch(settings, history)] for name in dataset.held_out):
        raise InputError(f"the trained model's logits on held-out images are not finite; lower lr ({settings.lr:g})")
    if kept is not model:
        model.load_state_dict(kept.state_dict())
    return history


def note(figures: SampleValues, values: SampleValues, done: int, count: int) -> None:
    """Write a batch's values (B,) into an epoch's (count,), after those of the `done` samples before it.

    One tensor per name for all steps: small tensors that outlive a step would fragment the memory, which would grow with every
    step.
    """
    for name, value in values.items():
        if name not in figures:
            figures[name] = value.new_full((count,), nan)
        figures[name][done : done + len(value)] = value


def summarise(figures: SampleValues) -> Row:
    """Return an epoch's figures from per-sample values (N,): means, and the temperature's range and percentiles."""
    row: Row = {}
    for name, values in figures.items():
        # NaN marks samples outside a statistic's group; in the loss itself it is a fault and must stay visible.
        row[f"train/{name}"] = (values.mean() if name == "loss" else values.nanmean()).item()
        if name == "tau":
            ordered = values.sort().values  # torch.quantile refuses more than 2^24 values
            places = {"min": 0.0, **{f"p{percent}": percent / 100 for percent in PERCENTILES}, "max": 1.0}
            chosen = ordered[[round(at * (len(ordered) - 1)) for at in places.values()]].tolist()
            row |= {f"train/tau_{end}": value for end, value in zip(places, chosen, strict=True)}
    # A group without samples (no wrong answer in the whole epoch) has no mean; it is left out.
    return {name: value for name, value in row.items() if name == "train/loss" or np.isfinite(value)}
