"""torchvision's classification models: `torchvision:NAME[:WEIGHTS]`."""

from collections.abc import Mapping
from types import ModuleType
from typing import Any, cast

from torch import Tensor, nn

from prepkd.data.samples.preprocessing import Preprocessing
from prepkd.errors import InputError
from prepkd.models.library import LibraryModel, Pretrained


class TorchvisionModel(LibraryModel):
    """A model of torchvision, which takes 3 channels; `weights` is a member of the model's weights enum."""

    # In training mode their forward pass returns auxiliary outputs beside the logits.
    AUXILIARY = ("googlenet", "inception_v3")

    def check(self, in_channels: int) -> None:
        """Raise InputError if torchvision lacks the model or its weights, or for other channels than 3."""
        self._check_offered()
        if in_channels != 3:
            raise InputError(
                f"model {self.name!r} takes 3 channels, the images have {in_channels}; timm's models take any"
            )
        self.pretrained()

    def build(self, num_classes: int, in_channels: int) -> nn.Module:
        """Build the model and load its pretrained weights."""
        self.check(in_channels)
        body = cast(nn.Module, _models().get_model(self.model, weights=None, num_classes=num_classes))
        if self.weights:
            chosen = self._chosen_weights()
            state = self.downloaded(chosen.url, lambda: chosen.get_state_dict(progress=False, check_hash=True))
            self._load(body, state, same_classes=num_classes == len(chosen.meta["categories"]))
        return body

    def pretrained(self) -> Pretrained | None:
        """Describe the pretrained weights from torchvision's metadata."""
        if not self.weights:
            return None
        chosen = self._chosen_weights()
        preset = chosen.transforms()
        # The crop size, not the resize before it: views are already cropped, and are resized to the model's input size.
        preprocessing = Preprocessing(
            tuple(preset.mean), tuple(preset.std), preset.crop_size[0], str(preset.interpolation.value)
        )
        categories = tuple(chosen.meta["categories"])
        return Pretrained(chosen.url, len(categories), preprocessing, categories)

    def _check_offered(self) -> None:
        if self.model in self.AUXILIARY:
            raise InputError(
                f"model {self.name!r}: not supported, because it returns auxiliary outputs beside its logits in training"
            )
        models = _models()
        self.check_known(self.model, [one for one in models.list_models(module=models) if one not in self.AUXILIARY])

    def _chosen_weights(self) -> Any:
        self._check_offered()
        offered = _models().get_model_weights(self.model)
        if self.weights not in offered.__members__:
            raise InputError(
                f"model {self.name!r}: no weights {self.weights!r}; offered: {', '.join(offered.__members__)}"
            )
        return offered[self.weights]

    def _load(self, body: nn.Module, state: Mapping[str, Tensor], *, same_classes: bool) -> None:
        """Load all weights; with another number of classes, all except those whose shape depends on it."""
        own = body.state_dict()
        head = [key for key, value in state.items() if key in own and value.shape != own[key].shape]
        if head and same_classes:
            raise InputError(f"model {self.name!r}: weights of another shape: {', '.join(head[:3])}")
        body.load_state_dict({**state, **{key: own[key] for key in head}})


def _models() -> ModuleType:
    from torchvision import models  # late: takes 0.7 s, and only names that begin with `torchvision:` need it

    return cast(ModuleType, models)
