"""The schema of params.yaml: frozen models, one section a stage; unknown keys are refused."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from prepkd.errors import InputError
from prepkd.method import METHODS, Method, parse_method
from prepkd.model_names import ZOO, problem, split_name
from prepkd.validation import override, validated, yaml_problem
from prepkd.views import ViewPlan
from prepkd.views.recipe import parse_recipe


class Section(BaseModel):
    """A part of params.yaml."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def _method(text: str) -> str:
    parse_method(text)
    return text


def _recipe(steps: list[Any]) -> list[Any]:
    parse_recipe(steps)
    return steps


def _model(name: str) -> str:
    if wrong := problem(name):
        raise ValueError(wrong)
    return name


def _seeds(seeds: int | list[int]) -> int | list[int]:
    if isinstance(seeds, list) and len(set(seeds)) < len(seeds):
        raise ValueError(f"{seeds} names a seed twice; each seed once")
    return seeds


# Keys of `Training` and `Teacher` that the first runs did not have.
LATER = frozenset(
    {"accumulate", "optimizer", "adamw", "clip_grad_norm", "warmup_epochs", "ema", "early_stop", "augment", "compile"}
)

FilePath = Annotated[Path, Field(strict=False)]  # YAML has no paths
# Names become folders, stage names and keys on DVC's command line.
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")]
# Editors complete what is listed, and take for right what has the pattern.
ModelName = Annotated[
    str,
    AfterValidator(_model),
    WithJsonSchema({"anyOf": [{"enum": list(ZOO)}, {"type": "string", "pattern": ":"}]}),
]
MethodName = Annotated[
    str,
    AfterValidator(_method),
    WithJsonSchema(
        {"anyOf": [{"enum": list(METHODS)}, {"type": "string", "pattern": r"^dtd-(flsw|cwsm)\+ka-(ps|lsr)$"}]}
    ),
]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Seeds = Annotated[
    Annotated[int, Field(ge=1)] | Annotated[list[Seed], Field(min_length=1)],
    AfterValidator(_seeds),
]


class Prepare(Section):
    """Which data, and how much of it."""

    dataset: Literal["digits", "cifar10", "cifar100", "cinic10", "tiny-imagenet", "folder", "h5"]
    raw: FilePath = Path("data/raw")
    mixed_formats: bool = False
    val_fraction: float = Field(default=0.0, ge=0.0, lt=1.0)
    subset: int | None = Field(default=None, ge=1)
    seed: Seed = 0


class AdamW(Section):
    """What AdamW has of its own."""

    betas: Annotated[list[Annotated[float, Field(ge=0, lt=1)]], Field(min_length=2, max_length=2)] = Field(
        default=[0.9, 0.999], description="decay of the averages of the gradient and of its square"
    )
    eps: float = Field(default=1e-8, gt=0, description="added to the root of the second")


class EarlyStop(Section):
    """When training ends before its last epoch: after `patience` epochs without a better top-1 on val."""

    patience: int = Field(ge=1, description="epochs without a better top-1 on val")


class Training(Section):
    """How a model is trained, teacher or student."""

    epochs: int = Field(ge=1)
    batch_size: int = Field(default=128, ge=1)
    accumulate: int = Field(default=1, ge=1)
    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: float = Field(default=0.1, gt=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    nesterov: bool = True
    adamw: AdamW = AdamW()
    weight_decay: float = Field(default=5e-4, ge=0)
    clip_grad_norm: float | None = Field(default=None, gt=0)
    schedule: Literal["multi-step", "cosine", "one-cycle"] = "cosine"
    warmup_epochs: float = Field(default=0.0, ge=0)
    milestones: list[Annotated[int, Field(ge=1)]] = []
    lr_decay: float = Field(default=0.1, gt=0, lt=1)
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    ema: float | None = Field(default=None, gt=0, lt=1)
    early_stop: EarlyStop | None = None
    precision: Literal["auto", "float32", "bf16"] = "auto"
    compile: Literal["auto"] | bool = "auto"
    checkpoint_every: int = Field(default=10, ge=1)
    deterministic: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> "Training":
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

    def identity(self, *, but: set[str]) -> dict[str, Any]:
        """The settings as a run's fingerprint takes them, `but` some.

        A key of `LATER` counts only where it is set: a run that doesn't use it is still the run that it was before.
        """
        fields, values = type(self).model_fields, self.model_dump(mode="json", exclude=but)
        return {k: v for k, v in values.items() if k not in LATER or getattr(self, k) != fields[k].default}


class OwnPreprocessing(Section):
    """What a model does to pixels first, where that is not the training images' statistics: those of published weights."""

    mean: Annotated[list[float], Field(min_length=1)]
    std: Annotated[list[Annotated[float, Field(gt=0)]], Field(min_length=1)]
    size: int | None = Field(default=None, ge=1)
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"

    @model_validator(mode="after")
    def _same_channels(self) -> "OwnPreprocessing":
        if len(self.mean) != len(self.std):
            raise ValueError(
                f"mean has {len(self.mean)} numbers and std {len(self.std)}; expected one a channel in each"
            )
        return self


class Teacher(Training):
    """A teacher: its architecture, and its training or its weights."""

    epochs: int = Field(default=0, ge=0)
    model: ModelName
    weights: FilePath | None = Field(
        default=None, description="a file of weights to start from; with epochs 0 they are final"
    )
    preprocessing: OwnPreprocessing | None = Field(
        default=None,
        description="what those weights want: mean and std a channel, size, interpolation; null: the data's",
    )
    augment: Annotated[list[Any], AfterValidator(_recipe)] | None = None
    seed: Seed = 0

    @model_validator(mode="after")
    def _trained_or_given(self) -> "Teacher":
        if self.weights and split_name(self.model)[2]:
            raise ValueError(
                f"model {self.model} brings weights, and weights is {str(self.weights)!r}; expected one of them"
            )
        if self.epochs == 0 and self.weights is None and not split_name(self.model)[2]:
            raise ValueError(
                "epochs is 0 and weights is not set; expected epochs >= 1, a file of weights, or a model that has them"
            )
        return self


class TopK(Section):
    """How many logits the encoding `topk` keeps of each row."""

    k: int = Field(default=16, ge=2)


class Cache(Section):
    """Which views are cached, how the teacher computes them, and how and where its logits are kept."""

    root: str = "data/logits"

    views: Annotated[int, Field(ge=1, lt=2**31)] | Literal["all"]
    seed: Seed = 0
    precision: Literal["ieee", "tf32", "bf16"] = "ieee"
    batch_size: int = Field(default=256, ge=1)
    chunk: int = Field(default=65536, ge=1)
    encoding: Literal["f16", "u8", "i16", "topk"] = "f16"
    topk: TopK = TopK()


class KD(Section):
    """Classic distillation's temperature."""

    tau: float = Field(default=4.0, gt=0)


class KA(Section):
    """Knowledge Adjustment."""

    eps: float = Field(default=0.1, ge=0, le=1)
    lsr_weight: Literal[1, "1/tau"] = 1


class FLSW(Section):
    """Focal-loss-style weights."""

    beta: float = Field(default=2.0, ge=0)
    gamma: float = Field(default=1.0, gt=0)


class CWSM(Section):
    """Confidence-weighted by the student's maximum."""

    beta: float = Field(default=0.2, ge=0)


class DTD(Section):
    """Dynamic Temperature Distillation."""

    tau_0: float = Field(default=4.0, gt=0)
    tau_min: float = Field(default=1.0, gt=0)
    tau_max: float = Field(default=40.0, gt=0)
    flsw: FLSW = FLSW()
    cwsm: CWSM = CWSM()

    @model_validator(mode="after")
    def _ordered(self) -> "DTD":
        if not self.tau_min <= self.tau_0 <= self.tau_max:
            raise ValueError(
                f"tau_min, tau_0, tau_max are {self.tau_min}, {self.tau_0}, {self.tau_max}; "
                "expected tau_min <= tau_0 <= tau_max"
            )
        return self


class Ensemble(Section):
    """How several teachers become one."""

    combine: Literal["probabilities", "logits"] = "probabilities"
    weights: list[Annotated[float, Field(gt=0, le=1e6)]] | None = None


class Distill(Training):
    """The student, what it is taught, and from where."""

    teacher: str
    teachers: Annotated[list[str], Field(min_length=1)] | None = None
    ensemble: Ensemble = Ensemble()
    student: ModelName
    method: MethodName = "kd"
    seeds: Seeds = 3
    source: Literal["cached", "online"] = "cached"
    view_order: Literal["cycle", "random"] = "cycle"
    resident_gib: float = Field(default=4.0, ge=0)
    ce_weight: Literal["auto"] | Annotated[float, Field(ge=0)] = "auto"
    kd_weight: Literal["auto"] | Annotated[float, Field(ge=0)] = "auto"
    kd: KD = KD()
    ka: KA = KA()
    dtd: DTD = DTD()

    @model_validator(mode="after")
    def _weights_fit(self) -> "Distill":
        ce_weight, kd_weight = self.weights
        if not self.parsed.teacher and kd_weight > 0:
            raise ValueError(f"method is ce and kd_weight is {kd_weight:g}; without a teacher kd_weight is auto or 0")
        if kd_weight < 0:
            raise ValueError(f"ce_weight is {ce_weight:g} and kd_weight auto is 1 - ce_weight; set kd_weight as well")
        if self.parsed.teacher and kd_weight == 0:
            raise ValueError(
                f"method is {self.method} and kd_weight is 0; a teacher needs kd_weight > 0, or method: ce"
            )
        if ce_weight + kd_weight == 0:
            raise ValueError("ce_weight and kd_weight are both 0; at least one > 0")
        return self

    @property
    def parsed(self) -> Method:
        """The method, parsed."""
        return parse_method(self.method)

    @property
    def weights(self) -> tuple[float, float]:
        """The weights of cross-entropy and distillation, `auto` resolved."""
        ce_weight = self.parsed.ce_weight if self.ce_weight == "auto" else self.ce_weight
        if self.kd_weight != "auto":
            return ce_weight, self.kd_weight
        return ce_weight, 1.0 - ce_weight if self.parsed.teacher else 0.0

    @model_validator(mode="after")
    def _teachers_fit(self) -> "Distill":
        names, weights = self.teacher_names, self.ensemble.weights
        if len(set(names)) < len(names):
            raise ValueError(f"teachers names one twice: {', '.join(names)}; each teacher once")
        if weights is not None and len(weights) != len(names):
            raise ValueError(f"ensemble.weights has {len(weights)} numbers for {len(names)} teachers; one a teacher")
        return self

    @property
    def teacher_names(self) -> list[str]:
        """The teachers whose answers are combined; one unless `teachers` lists more."""
        return [self.teacher] if self.teachers is None else self.teachers

    @property
    def teacher_weights(self) -> list[float]:
        """Each teacher's weight, equal ones where none are given."""
        return self.ensemble.weights or [1.0] * len(self.teacher_names)

    @property
    def teacher_tau(self) -> float:
        """The temperature at which teachers' probabilities are averaged: the method's own, tau_0 with DTD."""
        return self.dtd.tau_0 if self.parsed.temperature else self.kd.tau

    @property
    def seed_list(self) -> list[int]:
        """The seeds to train, in order."""
        return list(range(self.seeds)) if isinstance(self.seeds, int) else self.seeds


def _once(entries: list[str]) -> list[str]:
    if twice := sorted({one for one in entries if entries.count(one) > 1}):
        raise ValueError(f"names {twice[0]!r} twice; expected each once")
    return entries


class Compare(Section):
    """The grid that the comparison's table holds: every run for every student and every teacher, over the seeds.

    A run is a method, then settings of `distill` that differ, joined by commas; a teacher is a key of `teachers`, or several
    joined by '+'. Students and teachers are those of `distill` where none are listed.
    """

    runs: Annotated[list[str], Field(min_length=1), AfterValidator(_once)]
    # Not null: DVC makes a stage of each entry, and no command of it works where there is no list.
    students: Annotated[list[ModelName], AfterValidator(_once)] = []
    teachers: Annotated[list[str], AfterValidator(_once)] = []


class Params(Section):
    """All of params.yaml."""

    threads: Annotated[int, Field(ge=1)] | None = None
    logger: Literal["tensorboard", "wandb", "mlflow"] | None = None
    prepare: Prepare
    augment: Annotated[list[Any], AfterValidator(_recipe)] = []
    teachers: Annotated[dict[Name, Teacher], Field(min_length=1)]
    cache: Cache
    distill: Distill
    compare: Compare

    @model_validator(mode="after")
    def _views_can_be_numbered(self) -> "Params":
        try:
            ViewPlan(self.augment, self.cache.views, 0, samples=1)
        except ValueError as error:
            raise ValueError(f"cache.views with augment: {error}") from None
        return self

    @model_validator(mode="after")
    def _teacher_known(self) -> "Params":
        known = f"expected a key of teachers: {', '.join(self.teachers)}"
        if self.distill.teacher not in self.teachers:
            raise ValueError(f"distill.teacher is {self.distill.teacher!r}; {known}")
        for name in self.distill.teacher_names:
            if name not in self.teachers:
                raise ValueError(f"distill.teachers has {name!r}; {known}")
        for several in self.compare.teachers:
            for name in several.split("+"):
                if name not in self.teachers:
                    raise ValueError(f"compare.teachers has {name!r}; {known}")
        for run in self.compare.runs:
            try:
                self.variant(run)
            except InputError as error:
                raise ValueError(f"compare.runs: {error}") from None
        return self

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """The teachers, several joined by '+', and students that the comparison pairs."""
        teachers = self.compare.teachers or ["+".join(self.distill.teacher_names)]
        return [
            (teacher, student) for teacher in teachers for student in self.compare.students or [self.distill.student]
        ]

    def variant(self, run: str, teacher: str | None = None, student: str | None = None) -> Distill:
        """The settings of one run of the comparison: `METHOD[,KEY=VALUE...]` over `distill`; raises InputError.

        `ce_weight` and `kd_weight` are `auto` unless the run names them; `teacher` may be several, joined by '+'.
        """
        method, *changes = re.split(r",(?![^\[]*\])", run)  # a comma within [] belongs to a list
        if not all("=" in change for change in changes):
            raise InputError(f"run {run!r}; expected METHOD[,KEY=VALUE...], e.g. kd,ce_weight=0")
        # Weights belong to a method: those of `distill` must neither contradict another one nor turn `kd` into its variant.
        own = {"method": method, "ce_weight": "auto", "kd_weight": "auto"}
        raw = self.distill.model_dump(mode="json", exclude_unset=True) | own
        if teacher:
            names = teacher.split("+")
            if unknown := [name for name in names if name not in self.teachers]:
                raise InputError(f"teacher is {unknown[0]!r}; expected a key of teachers: {', '.join(self.teachers)}")
            raw |= {"teacher": names[0], "teachers": names if len(names) > 1 else None}
        if student:
            raw["student"] = student
        for change in changes:
            override(raw, change, where=f"run {run!r}")
        return validated(Distill, raw, f"run {run!r}")


def load_params(path: Path, overrides: Sequence[str] = ()) -> Params:
    """Read and validate a YAML file of settings, `KEY=VALUE` overrides applied; raises InputError with one clear line."""
    if not path.is_file():
        raise InputError(f"{path}: no such file; run in the project's root or name one with --params")
    try:
        raw = YAML(typ="safe", pure=True).load(path)
    except YAMLError as error:
        raise InputError(f"{path}: not YAML: {yaml_problem(error)}") from None
    if not isinstance(raw, dict):
        raise InputError(f"{path}: expected sections with settings, found {type(raw).__name__}")
    for change in overrides:
        override(raw, change, where="--set")
    return validated(Params, raw, str(path))
