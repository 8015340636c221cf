"""Named features of any model, computed in the same forward pass as its logits."""

import contextlib
import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from prepkd.errors import InputError
from prepkd.models.normalised import Normalised
from prepkd.models.staged import Staged
from prepkd.runtime.torch_state import fork_rng

# Named tensors of a model for a batch: "logits" (B, K), named features, and the tensors that terms compute from them.
Answers = Mapping[str, Tensor]
STRONG = "strong/"  # prefix of a name: of the strong view, if a step shows a weak and a strong one
AFFINE = "/affine"  # suffix of a name: the affine parameters of the batch norm that gave this map


class UnknownFeatureError(InputError):
    """A model does not have the named `feature`."""

    def __init__(self, feature: str, message: str) -> None:
        super().__init__(message)
        self.feature = feature


class WithFeatures(nn.Module):
    """A model that returns named features with its logits, from one forward pass.

    A name is one of `feature_names(model)`, or a module's path as in `model.body.named_modules()`. Paths need forward hooks,
    set for the duration of a forward pass, with which `torch.compile` runs the model eagerly. `NAME/affine` are the weight and
    bias of the batch norm before the last activation of NAME, a pre-activation or the path of a batch norm; they are the same
    for every sample. Logits and state dict of the model don't change. Raises UnknownFeatureError for an unknown name.
    """

    def __init__(self, model: Normalised, names: Sequence[str]) -> None:
        super().__init__()
        self.model = model
        self.names = tuple(dict.fromkeys(names))
        for name in self.names:
            if not name.endswith(AFFINE):
                _check_name(name, model)
        own = feature_names(model) if self.names else ()
        self.norms = {name: _norm(model, name) for name in self.names if name.endswith(AFFINE)}
        self.paths = tuple(name for name in self.names if name not in own and name not in self.norms)
        self.pre = any(name in own and name.endswith(".pre") for name in self.names)
        if self.paths:
            # Dynamo does not guard on hooks: compiled code would keep writing to the first call's outputs. Not a decorator:
            # it would import Dynamo, two seconds, with this module.
            self._hooked = torch.compiler.disable(WithFeatures._with_hooks)  # type: ignore[no-untyped-call]
        self.training = model.training

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        """Return `logits` (B, K) and the named features, usually (B, C, H, W) or (B, C), in the dtype the model computes in.

        Affine parameters are (B, 2, C), without gradient. Raises InputError if the output of a named module is not a tensor, or
        the module runs twice or not at all.
        """
        if not self.names:
            return {"logits": self.model(pixels)}
        return self._hooked(self, pixels) if self.paths else self._chosen(self._outputs(pixels))

    def _outputs(self, pixels: Tensor) -> dict[str, Tensor]:
        if body := _staged(self.model):
            prepared = self.model.prepare(pixels)
            return body.all_outputs(prepared) if self.pre else body.outputs(prepared)
        return {"logits": self.model(pixels)}

    def _with_hooks(self, pixels: Tensor) -> dict[str, Tensor]:
        body = self.model.body
        outputs: dict[str, list[object]] = {path: [] for path in self.paths}
        with contextlib.ExitStack() as hooks:
            for path in self.paths:
                hooks.enter_context(body.get_submodule(path).register_forward_hook(_recorder(outputs[path])))
            found = self._outputs(pixels)
        return self._chosen({path: self._only(path, outputs[path]) for path in self.paths} | found)

    def _chosen(self, found: Mapping[str, Tensor]) -> dict[str, Tensor]:
        affine = {name: _affine(norm, len(found["logits"])) for name, norm in self.norms.items()}
        return {name: affine[name] if name in affine else found[name] for name in ("logits", *self.names)}

    def _only(self, path: str, outputs: list[object]) -> Tensor:
        where = f"feature {path!r} of {type(self.model.body).__name__}"
        if len(outputs) != 1:
            raise InputError(f"{where}: the module ran {len(outputs)} times in a forward pass; expected once")
        if not isinstance(outputs[0], Tensor):
            raise InputError(f"{where}: the module returned a {type(outputs[0]).__name__}; expected a tensor")
        return outputs[0]


def feature_names(model: Normalised) -> tuple[str, ...]:
    """The names of a zoo model's features, first to last, then its pre-activations; other models have only module paths.

    >>> from prepkd.data.samples.preprocessing import Preprocessing
    >>> from prepkd.models import build_model
    >>> feature_names(Normalised(build_model("resnet8", 10), Preprocessing((0.5,) * 3, (0.25,) * 3)))
    ('stem', 'stage1', 'stage2', 'stage3', 'pooled', 'stage1.pre', 'stage2.pre', 'stage3.pre')
    """
    body = _staged(model)
    return (*body.FEATURES, *body.pre_names) if body else ()


def feature_shapes(model: Normalised, names: Sequence[str], size: tuple[int, int]) -> dict[str, torch.Size]:
    """Return each named feature's shape for one image of `size` (height, width): (C, H, W) for a map, (C,) for a vector.

    Runs the model on two black images, in evaluation mode and without gradients; afterwards its mode, its batch-norm
    statistics and torch's random state are as before. Raises InputError as `WithFeatures` does.
    """
    device = model.mean.device
    pixels = torch.zeros(2, model.mean.shape[1], *size, device=device)
    with _evaluating(model), torch.no_grad(), fork_rng(device):
        found = WithFeatures(model, names)(pixels)
    return {name: found[name].shape[1:] for name in names}


@contextlib.contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Switch to evaluation mode; on exit, restore each module's own mode."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def _staged(model: Normalised) -> Staged | None:
    """The body if it names its features; a subclass with its own `forward` may compute something else."""
    body = model.body
    return body if isinstance(body, Staged) and type(body).forward is Staged.forward else None


def _norm(model: Normalised, name: str) -> nn.BatchNorm2d:
    """The batch norm that `NAME/affine` means.

    Raises UnknownFeatureError if NAME is no pre-activation of one and no batch norm.
    """
    of, body = name.removesuffix(AFFINE), _staged(model)
    known = dict(zip(body.pre_names, body.norms(), strict=False)) if body else {}
    norm = known.get(of) or dict(model.body.named_modules()).get(of)
    if isinstance(norm, nn.BatchNorm2d) and norm.affine:
        return norm
    expected = f"expected {', '.join(known)}, or" if known else "expected"
    raise UnknownFeatureError(
        name,
        f"model {type(model.body).__name__} has no feature {name!r}: {of!r} is not made by one batch norm; {expected} the path "
        "of a batch norm with affine parameters",
    )


def _affine(norm: nn.BatchNorm2d, samples: int) -> Tensor:
    return torch.stack([norm.weight, norm.bias]).detach().expand(samples, -1, -1)


def _recorder(outputs: list[object]) -> Callable[..., None]:
    def record(module: nn.Module, inputs: object, output: object) -> None:
        # Cloned, because a later module may overwrite it, as in-place ReLUs in torchvision and timm do.
        outputs.append(output.clone() if isinstance(output, Tensor) else output)

    return record


def _check_name(name: str, model: Normalised) -> None:
    named, paths = feature_names(model), [path for path, _ in model.body.named_modules() if path]
    if name in named or name in paths:
        return
    close = difflib.get_close_matches(name, [*named, *paths], n=1)
    guess = f"did you mean {close[0]}? " if close else ""
    known = f"known: {', '.join(named)}, or the path" if named else "expected the path"
    children = ", ".join(child for child, _ in model.body.named_children())
    raise UnknownFeatureError(
        name,
        f"model {type(model.body).__name__} has no feature {name!r}; {guess}{known} of a module or of one within it: "
        f"{children}",
    )
