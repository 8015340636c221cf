"""One flat training loop, for teachers and students alike."""

import copy
import os
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from math import nan
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from prepkd.data.samples.samples import Samples
from prepkd.errors import InputError
from prepkd.runtime.prefetch import prefetch
from prepkd.training.batches import Answering, Epoch, Views, batches
from prepkd.training.checkpoints import Row, freeze, load_state, save_state
from prepkd.training.evaluation import Evaluation
from prepkd.training.optimisers import OPTIMIZERS, make_average, make_schedule
from prepkd.training.settings import Training
from prepkd.training.step import Loss, Values, make_gradients
from prepkd.training.stopping import is_over, kept_epoch
from prepkd.views import ViewPlan
from prepkd.views.order import sample_order


def train(
    model: nn.Module,
    settings: Training,
    loss: Loss,
    *,
    samples: Samples,
    held_out: Mapping[str, Samples],
    plan: ViewPlan,
    classes: int,
    views_of: Callable[[int], Views],
    teacher: Answering | None,
    seed: int,
    checkpoint: Path,
    on_epoch: Callable[[Row], None],
) -> list[Row]:
    """Train `model` in place and return a row of figures for each epoch; resumes from `checkpoint` where it exists.

    `views_of` says which views an epoch shows, `teacher` answers them. Nothing is random here but by (seed, epoch), so a
    resumed run ends with the weights of an uninterrupted one. The weights it ends with are those that were evaluated: the
    averaged ones with `ema`, those of the best epoch on val with `early_stop`. Raises InputError when the loss is no longer
    finite, and where early stopping has no val.
    """
    if settings.early_stop and "val" not in held_out:
        raise InputError(
            "early_stop watches val, and the data has none; expected prepare.val_fraction > 0, e.g. 0.1, and "
            "`prepkd prepare` again, or early_stop: null"
        )
    device, count = samples.device, len(samples)
    group = settings.batch_size * settings.accumulate  # samples a step
    if settings.deterministic:  # cuBLAS is deterministic only with a workspace of fixed size
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(settings.deterministic)
    model.to(memory_format=torch.channels_last)
    optimizer = OPTIMIZERS[settings.optimizer](model, settings)
    steps = -(-count // group)
    schedule = make_schedule(optimizer, settings, steps)
    state: dict[str, Any] = {"model": model, "optimizer": optimizer, "schedule": schedule}
    shown = model  # what is evaluated
    if settings.ema:
        state["average"] = average = make_average(model, settings.ema)
        shown = average.module
    if settings.early_stop:
        state["best"] = copy.deepcopy(shown)
    anew = device.type != "cuda"  # a CUDA graph adds to gradients where they are
    gradients = make_gradients(model, loss, settings, device, settings.epochs * steps)
    evaluate = Evaluation(shown, held_out, device)
    history = load_state(checkpoint, state)
    if history and not evaluate.names <= history[-1].keys():  # it was killed while that epoch was evaluated
        history[-1] |= evaluate().result()
    if history and settings.early_stop and kept_epoch(settings, history) == len(history) - 1:
        state["best"].load_state_dict(shown.state_dict())  # it may have been interrupted before this was noted
    for row in history:
        on_epoch(row)

    def feed(epoch: int) -> Epoch:
        order, views = torch.from_numpy(sample_order(seed, epoch, count)), views_of(epoch)
        rows = torch.from_numpy(plan.parameters(views))
        return Epoch(order.to(device), rows.to(device), teacher(views) if teacher else None)

    fed = prefetch(map(feed, range(len(history), settings.epochs)), teacher.prefetch_depth if teacher else 1)

    last = freeze(state), list(history)
    asked: Future[Row] | None = None  # the last epoch's figures, which the next one does not wait for

    def report() -> None:
        nonlocal asked
        if asked:
            history[-1] |= asked.result()
            asked = None
            on_epoch(history[-1])

    try:
        while not is_over(settings, history):
            epoch = len(history)
            started = time.perf_counter()
            lr = float(schedule.get_last_lr()[0])
            figures: Values = {}
            model.train()
            done = 0
            for batch in batches(samples, plan, next(fed), settings.batch_size, group, classes):
                # Per-sample values stay on the device until the epoch ends: no step waits for a number.
                note(figures, gradients(*batch), done, count)
                done += len(batch[0])
                if done % group == 0 or done == count:
                    if settings.clip_grad_norm:
                        nn.utils.clip_grad_norm_(model.parameters(), settings.clip_grad_norm)
                    optimizer.step()
                    optimizer.zero_grad(set_to_none=anew)
                    schedule.step()
                    if settings.ema:
                        average.update_parameters(model)
                if asked and asked.done():
                    report()
            row = summarise(figures) | {"epoch": float(epoch), "lr": lr}
            row["samples_per_second"] = count / (time.perf_counter() - started)
            report()
            if not np.isfinite(row["train/loss"]):
                raise InputError(f"epoch {epoch}: the training loss is {row['train/loss']}; lower lr ({settings.lr:g})")
            history.append(row)
            last = freeze(state), list(history)
            asked = evaluate()
            if settings.early_stop or epoch + 1 == settings.epochs or asked.done():
                row |= asked.result()
            if settings.early_stop and kept_epoch(settings, history) == epoch:
                state["best"].load_state_dict(shown.state_dict())
                last = freeze(state), list(history)
            if (epoch + 1) % settings.checkpoint_every == 0 or is_over(settings, history):
                save_state(checkpoint, *last)
            if asked.done():
                report()
    except KeyboardInterrupt:  # nothing of the last finished epoch is lost, whenever the last checkpoint was
        save_state(checkpoint, *last)
        raise
    finally:
        evaluate.stop()
    kept = state.get("best", shown)
    if kept is not model:
        model.load_state_dict(kept.state_dict())
    return history


def note(figures: Values, values: Values, done: int, count: int) -> None:
    """Put a batch's values (B,) into an epoch's (count,), behind those of the `done` samples before it.

    In one place for all steps: small tensors that outlive a step sit between large ones, and memory grows with every step.
    """
    for name, value in values.items():
        if name not in figures:
            figures[name] = value.new_full((count,), nan)
        figures[name][done : done + len(value)] = value


def summarise(figures: Values) -> Row:
    """An epoch's figures from its samples' values, (N,) each: means, and the temperature's range."""
    row: Row = {}
    for name, values in figures.items():
        # NaN marks samples outside a statistic's group; in the loss itself it is a fault, and must be seen.
        row[f"train/{name}"] = (values.mean() if name == "loss" else values.nanmean()).item()
        if name == "tau":
            row |= {"train/tau_min": values.min().item(), "train/tau_max": values.max().item()}
    # A group without samples (no wrong answer in the whole epoch) has no mean; it is left out.
    return {name: value for name, value in row.items() if name == "train/loss" or np.isfinite(value)}
