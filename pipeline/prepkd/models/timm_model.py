"""timm's models: `timm:NAME[:pretrained]`; a tag of weights is part of NAME, after a dot."""

import contextlib
import importlib
import logging
from collections.abc import Iterator
from types import ModuleType
from typing import cast

from torch import nn

from prepkd.data.samples.preprocessing import Preprocessing
from prepkd.errors import InputError
from prepkd.models.library import LibraryModel, Pretrained, guess


class TimmModel(LibraryModel):
    """A model of timm, for any number of channels; `weights` is "pretrained" or empty."""

    def check(self, in_channels: int) -> None:
        """Raise InputError if timm is not installed, or lacks the model or its weights."""
        self._offering()
        self.pretrained()

    def build(self, num_classes: int, in_channels: int) -> nn.Module:
        """Build the model; timm loads the pretrained weights."""
        timm, known = self._offering(), self.pretrained()

        def create() -> nn.Module:
            model = timm.create_model(
                self.model, pretrained=known is not None, num_classes=num_classes, in_chans=in_channels
            )
            return cast(nn.Module, model)

        if known is None:
            return create()
        with _quiet_hub():
            return self.downloaded(known.source, create)

    def pretrained(self) -> Pretrained | None:
        """Describe the pretrained weights from timm's configuration."""
        if not self.weights:
            return None
        timm = self._offering()
        if self.weights != "pretrained":
            raise InputError(
                f"model {self.name!r}: expected timm:NAME or timm:NAME:pretrained; a tag is part of NAME, after a dot"
            )
        config = timm.get_pretrained_cfg(self.model)
        if config is None or not config.has_weights:
            raise self._no_weights(timm)
        # Not `crop_pct`: views are already cropped, and are resized to the model's input size.
        preprocessing = Preprocessing(
            tuple(config.mean), tuple(config.std), int(config.input_size[-1]), str(config.interpolation)
        )
        return Pretrained(str(config.hf_hub_id or config.url or config.file), int(config.num_classes), preprocessing)

    def _offering(self) -> ModuleType:
        """Import timm, an optional extra; raises InputError if it is not installed or lacks the model."""
        try:
            timm = importlib.import_module("timm")
        except ImportError:
            raise InputError(f"model {self.name!r}: timm is not installed; pip install 'prepkd[timm]'") from None
        self.check_known(self.model.partition(".")[0], timm.list_models())
        try:
            timm.get_pretrained_cfg(self.model)
        except RuntimeError:  # an unknown tag, which timm refuses even without pretrained weights
            raise self._no_weights(timm) from None
        return timm

    def _no_weights(self, timm: ModuleType) -> InputError:
        return InputError(f"model {self.name!r}: timm has no weights for it{guess(self.model, timm.list_pretrained())}")


@contextlib.contextmanager
def _quiet_hub() -> Iterator[None]:
    """Silence the Hub's log of its retries, about a dozen lines; our error message gives the outcome in one line."""
    from huggingface_hub.utils.logging import get_verbosity, set_verbosity  # comes with timm, an optional extra

    before = get_verbosity()
    set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        set_verbosity(before)
