"""The section `distill` of params.yaml."""

from collections.abc import Sequence, Set
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, Field, create_model, model_validator

from prepkd.errors import InputError
from prepkd.methods.cross_entropy import CrossEntropy
from prepkd.methods.entries import entries_serving
from prepkd.methods.grammar import Method, parse_method
from prepkd.methods.missing_features import features_of
from prepkd.methods.objective import MethodTerms
from prepkd.methods.settings import MethodName
from prepkd.methods.term import FeatureTerm, Term
from prepkd.methods.terms import SECTIONS, TERMS
from prepkd.methods.user_terms import is_user_term
from prepkd.models.features import WithFeatures
from prepkd.models.normalised import Normalised
from prepkd.models.settings import ModelName
from prepkd.settings.section import Section, Seed, one_of
from prepkd.settings.validation import validated
from prepkd.teacher.ensemble import EnsembleSettings
from prepkd.training.settings import Training
from prepkd.views.order import VIEW_ORDERS

# Settings that change neither the student of a seed nor the record of its training.
WITHOUT_EFFECT = frozenset({"seeds", "resident_gib", "checkpoint_every"})

T = TypeVar("T", bound=Term)
S = TypeVar("S", bound=Section)


def _seeds(seeds: int | list[int]) -> int | list[int]:
    if isinstance(seeds, list) and len(set(seeds)) < len(seeds):
        raise ValueError(f"{seeds} names a seed twice; each seed once")
    return seeds


Seeds = Annotated[
    Annotated[int, Field(ge=1, le=10_000)] | Annotated[list[Seed], Field(min_length=1, max_length=10_000)],
    AfterValidator(_seeds),
]


class StudentSettings(Training):
    """The student, its method, and the source of its teacher's answers."""

    teacher: str
    teachers: Annotated[list[str], Field(min_length=1)] | None = None
    ensemble: EnsembleSettings = EnsembleSettings()
    student: ModelName
    method: MethodName = "kd"
    seeds: Seeds = 3
    source: Literal["cached", "online"] = "cached"
    view_order: Annotated[str, one_of(VIEW_ORDERS)] = "cycle"
    resident_gib: float = Field(default=4.0, ge=0)
    views_per_step: Literal[1, 2] = 1
    ce_weight: Literal["auto"] | Annotated[float, Field(ge=0)] = "auto"
    kd_weight: Literal["auto"] | Annotated[float, Field(ge=0)] = "auto"
    own: dict[str, dict[str, Any]] = Field(default={}, description="settings of terms of your own, by their `name`")

    @model_validator(mode="after")
    def _weights_fit(self) -> "StudentSettings":
        ce_weight, kd_weight = self.loss_weights
        if self.parsed_method.divergence is None and kd_weight > 0:
            why = "without a teacher" if not self.parsed_method.needs_teacher else "without a divergence, such as kd,"
            raise ValueError(f"method is {self.method} and kd_weight is {kd_weight:g}; {why} kd_weight is auto or 0")
        if kd_weight < 0:
            raise ValueError(f"ce_weight is {ce_weight:g} and kd_weight auto is 1 - ce_weight; set kd_weight as well")
        if self.parsed_method.divergence and kd_weight == 0:
            raise ValueError(
                f"method is {self.method} and kd_weight is 0; a teacher needs kd_weight > 0, or method: ce"
            )
        if ce_weight + kd_weight == 0 and not self.parsed_method.feature_terms:
            raise ValueError("ce_weight and kd_weight are both 0; at least one > 0")
        return self

    @model_validator(mode="after")
    def _views_fit(self) -> "StudentSettings":
        for term in self.parsed_method.terms:
            if term.views > self.views_per_step:
                raise ValueError(
                    f"method is {self.method} and views_per_step is {self.views_per_step}; {term.name} compares a weak and a "
                    "strong view of each sample: set distill.views_per_step: 2, and augment_strong"
                )
        return self

    @model_validator(mode="after")
    def _labels_fit(self) -> "StudentSettings":
        labels = self.parsed_method.labels
        if labels is CrossEntropy:
            return self
        if self.label_smoothing:
            raise ValueError(
                f"label_smoothing is {self.label_smoothing:g} and method {self.method} has a loss with the labels of its "
                f"own, {labels.name}; expected label_smoothing 0"
            )
        if self.loss_weights[0] == 0:
            auto = " by auto" if self.ce_weight == "auto" else ""
            raise ValueError(
                f"method is {self.method} and ce_weight is 0{auto}, with which {labels.name} has no effect; "
                f"set ce_weight > 0, or leave out {labels.name}"
            )
        return self

    @property
    def parsed_method(self) -> Method:
        """The method, parsed."""
        return parse_method(self.method)

    @property
    def loss_weights(self) -> tuple[float, float]:
        """The weights of cross-entropy and distillation, `auto` resolved."""
        ce_weight = self.parsed_method.ce_weight if self.ce_weight == "auto" else self.ce_weight
        return ce_weight, self.parsed_method.kd_weight(ce_weight) if self.kd_weight == "auto" else self.kd_weight

    @property
    def own_terms(self) -> list[type[Term]]:
        """The method's terms that are a user's own."""
        return [term for term in self.parsed_method.terms if is_user_term(term)]

    @model_validator(mode="after")
    def _own_terms_fit(self) -> "StudentSettings":
        for term in self.own_terms:
            try:
                self.configured(term)
            except InputError as error:
                raise ValueError(str(error)) from None
        return self

    @property
    def as_training(self) -> Training:
        """The settings of its training, which are a part of these."""
        return self

    @property
    def smallest_batches(self) -> dict[str, int]:
        """The smallest batch for which a term's loss has a meaning, by the term's name."""
        return {term.name: term.smallest_batch for term in self.terms.all}

    @property
    def features_read(self) -> tuple[str, ...]:
        """The student's named features that the method's terms read."""
        return self.terms.student_features

    def check_features(self, model: Normalised) -> None:
        """Raise InputError for a feature that the method's terms read and the student's `model` does not have."""
        with features_of(f"student {self.student!r} of method {self.method}", self.terms.feature_terms):
            WithFeatures(model, self.features_read)

    def entry_terms(self, entries: Sequence[str]) -> dict[str, FeatureTerm | None]:
        """Entries of `cache.features` by name: a term with its settings, or None for a named feature."""
        kinds = {name: TERMS.get(name) for name in entries}
        return {
            name: self.configured(kind) if kind and issubclass(kind, FeatureTerm) else None
            for name, kind in kinds.items()
        }

    def entries_read(self, entries: Sequence[str]) -> list[str]:
        """Return the entries of `cache.features` that the method reads."""
        served = [entries_serving(term, entries) for term in self.terms.feature_terms]
        return list(dict.fromkeys(name for names in served for name in names))

    @property
    def terms(self) -> MethodTerms:
        """The method's terms with their settings."""
        method = self.parsed_method
        ce_weight, kd_weight = self.loss_weights
        return MethodTerms(
            ce_weight,
            kd_weight,
            self.configured(method.labels),
            self.configured(method.temperature),
            self._chosen(method.perturbation),
            self._chosen(method.adjustment),
            self._chosen(method.standardisation),
            self._chosen(method.divergence),
            [self.configured(term) for term in method.feature_terms],
            self.views_per_step,
        )

    def configured(self, term: type[T]) -> T:
        """Return a term with these settings, whether or not the method has it."""
        if is_user_term(term):
            return validated(term, self.own.get(term.name, {}), f"distill.own.{term.name}")
        if term.section is None:  # it gets the settings that it shares with training, such as label_smoothing
            return term(**{key: getattr(self, key) for key in term.model_fields if key in type(self).model_fields})
        return term(**dict(getattr(self, term.section)))

    def _chosen(self, term: type[T] | None) -> T | None:
        return self.configured(term) if term else None

    def section(self, kind: type[S]) -> S:
        """The settings of one section class."""
        found = getattr(self, next(key for key, section in SECTIONS.items() if section is kind))
        assert isinstance(found, kind)
        return found

    @property
    def unused(self) -> set[str]:
        """The keys that training does not read, sections of other terms and keys of unused teachers included."""
        keys = (
            super().unused
            | (set() if self.own_terms else {"own"})
            | SECTIONS.keys() - {term.section for term in self.parsed_method.terms}
        )
        if not self.parsed_method.needs_teacher:
            return keys | {"teacher", "teachers", "ensemble", "source"}
        return keys | ({"teacher"} if len(self.teacher_names) > 1 else {"teacher", "ensemble"})

    def used(self, *, but: Set[str]) -> dict[str, Any]:
        """Return the settings that training reads, as JSON: `auto` resolved, sections without keys that only other terms read."""
        values = super().used(but=but)
        for term in self.parsed_method.terms:
            if term.section:
                values[term.section] = {k: v for k, v in values[term.section].items() if k not in term.ignored_settings}
        if self.own_terms:
            values["own"] = {one.name: self.configured(one).model_dump(mode="json") for one in self.own_terms}
        ce_weight, kd_weight = self.loss_weights
        resolved = {"ce_weight": ce_weight, "kd_weight": kd_weight, "teachers": self.teacher_names}
        return values | {key: value for key, value in resolved.items() if key in values}

    @model_validator(mode="after")
    def _one_origin(self) -> "StudentSettings":
        self.check_origin(self.student)
        return self

    @model_validator(mode="after")
    def _features_fit(self) -> "StudentSettings":
        names = [term.name for term in self.parsed_method.feature_terms]
        if names and len(self.teacher_names) > 1:
            raise ValueError(
                f"method {self.method} compares features ({', '.join(names)}) with those of one teacher; "
                f"teachers names {len(self.teacher_names)}"
            )
        return self

    @model_validator(mode="after")
    def _teachers_fit(self) -> "StudentSettings":
        names, weights = self.teacher_names, self.ensemble.weights
        if len(set(names)) < len(names):
            raise ValueError(f"teachers names one twice: {', '.join(names)}; each teacher once")
        if weights is not None and len(weights) != len(names):
            raise ValueError(f"ensemble.weights has {len(weights)} numbers for {len(names)} teachers; one per teacher")
        return self

    @property
    def teacher_names(self) -> list[str]:
        """The teachers whose answers are combined; one unless `teachers` lists more."""
        return [self.teacher] if self.teachers is None else self.teachers

    @property
    def teacher_weights(self) -> list[float]:
        """Each teacher's weight; equal weights by default."""
        return self.ensemble.weights or [1.0] * len(self.teacher_names)

    @property
    def teacher_tau(self) -> float:
        """The temperature at which teachers' probabilities are averaged: the method's own, tau_0 with DTD."""
        return self.terms.temperature.base

    @property
    def keys_without_effect(self) -> frozenset[str]:
        """The settings that do not change a student's weights: cached and online students are equal."""
        return WITHOUT_EFFECT | {"source"} | (frozenset() if self.early_stop else {"evaluate_every"})

    @property
    def seed_list(self) -> list[int]:
        """The seeds to train, in order."""
        return list(range(self.seeds)) if isinstance(self.seeds, int) else self.seeds


if TYPE_CHECKING:
    Distill = StudentSettings
else:  # with a section for each term that has settings
    Distill = create_model(
        "Distill",
        __base__=StudentSettings,
        __doc__=StudentSettings.__doc__,
        **{section: (term, term()) for section, term in SECTIONS.items()},
    )
