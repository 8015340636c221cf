"""Settings of training that teachers and students share."""

from collections.abc import Set
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from prepkd.data.samples.preprocessing import Preprocessing
from prepkd.models.names import split_name
from prepkd.models.settings import OwnPreprocessing
from prepkd.settings.section import FilePath, Section, one_of
from prepkd.training.optimisers import OPTIMIZERS, SCHEDULES, Optimisation, unread


class EarlyStop(Section):
    """End training after `patience` epochs without a better top-1 on val."""

    patience: int = Field(ge=1, description="epochs without a better top-1 on val")


class Training(Optimisation):
    """Optimiser, schedule and initial weights of a teacher or a student."""

    weights: FilePath | None = Field(default=None, description="a file of weights to start from; null: none")
    weights_key: Annotated[str, Field(min_length=1)] | None = Field(
        default=None,
        description="which weights in that file, if it holds several, e.g. state_dict_ema; null: the only ones",
    )
    preprocessing: OwnPreprocessing | None = Field(
        default=None,
        description="their preprocessing: mean and std per channel, size, interpolation; null: the data's",
    )
    batch_size: int = Field(default=128, ge=1)
    accumulate: int = Field(default=1, ge=1)
    optimizer: Annotated[str, one_of(OPTIMIZERS)] = "sgd"
    schedule: Annotated[str, one_of(SCHEDULES)] = "cosine"
    clip_grad_norm: float | None = Field(default=None, gt=0)
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    ema: float | None = Field(default=None, gt=0, lt=1)
    early_stop: EarlyStop | None = None
    precision: Literal["auto", "float32", "bf16"] = "auto"
    batch_norm: Literal["synchronised", "local"] = "synchronised"
    compile: Literal["auto"] | bool = "auto"
    checkpoint_every: int = Field(default=10, ge=1)
    evaluate_every: int = Field(default=1, ge=1)
    deterministic: bool = False

    def check_origin(self, model: str) -> None:
        """Raise ValueError for weights both in a file and in the model's name, and for a key without a file."""
        if self.weights and split_name(model)[2]:
            raise ValueError(
                f"model {model} brings weights, and weights is {str(self.weights)!r}; expected one of them"
            )
        if self.weights_key and self.weights is None:
            raise ValueError(
                f"weights_key is {self.weights_key!r} and weights is not set; a key needs a file of weights"
            )

    @model_validator(mode="after")
    def _consistent(self) -> "Training":
        if self.early_stop and self.evaluate_every > 1:
            raise ValueError(
                f"early_stop compares val after every epoch and evaluate_every is {self.evaluate_every}; expected 1"
            )
        if self.optimizer == "sgd" and self.nesterov and self.momentum == 0:
            raise ValueError("nesterov is true and momentum is 0; Nesterov needs momentum > 0, or nesterov: false")
        if self.schedule == "multi-step" and not self.milestones:
            raise ValueError("schedule is multi-step and milestones is empty; list the epochs at which lr drops")
        if self.schedule != "multi-step" and self.milestones:
            raise ValueError(f"milestones belong to schedule: multi-step; schedule is {self.schedule}")
        warmup = f"warmup_epochs is {self.warmup_epochs:g}"
        if self.warmup_epochs and self.schedule == "one-cycle":
            raise ValueError(f"{warmup} and schedule is one-cycle, which has a warm-up of its own; expected 0")
        if self.warmup_epochs and self.warmup_epochs >= min(self.milestones or [self.epochs]):
            end = "the first of milestones" if self.milestones else "epochs"
            raise ValueError(f"{warmup}; expected less than {end}, {min(self.milestones or [self.epochs])}")
        return self

    @property
    def own_preprocessing(self) -> Preprocessing | None:
        """The preprocessing of the given weights; None if the settings name none."""
        return Preprocessing.from_description(self.preprocessing.model_dump()) if self.preprocessing else None

    @property
    def unused(self) -> set[str]:
        """The keys that this training does not read: those of other optimisers and of other schedules."""
        return {*unread(OPTIMIZERS, self.optimizer), *unread(SCHEDULES, self.schedule)}

    def used(self, *, but: Set[str]) -> dict[str, Any]:
        """The settings that training reads, as JSON, without the keys `but`: two runs that agree in them are the same run."""
        # Equals training in one process, up to rounding.
        synchronised = {"batch_norm"} if self.batch_norm == "synchronised" else set()
        return super().used(but=but | self.unused | synchronised)
