"""Batch normalisation over the samples of several processes."""

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from prepkd.errors import InputError
from prepkd.runtime import distributed


class _OverProcesses(_BatchNorm):
    """Normalise a batch by the mean and variance over all processes' samples; this process's share may be empty.

    PyTorch's SyncBatchNorm does so on GPUs only.
    """

    def forward(self, batch: Tensor) -> Tensor:
        """Normalise (n, C, ...); in evaluation mode, or with one process, as PyTorch's batch norm does."""
        if not self.training or distributed.world_size() == 1:
            return super().forward(batch)
        self._check_input_dim(batch)  # type: ignore[no-untyped-call]
        values = batch.float()
        dims = [0, *range(2, values.dim())]
        shape = [1, -1, *[1] * (values.dim() - 2)]
        own = values.new_full((1,), values.numel() / values.shape[1])  # filled there: a copy would wait for the GPU
        sums = distributed.all_reduce_sum(torch.cat([values.sum(dims), own]))
        count, mean = sums[-1:], sums[:-1] / sums[-1:]
        centred = values - mean.view(shape)
        variance = distributed.all_reduce_sum(centred.square().sum(dims)) / count
        self._track(mean.detach(), variance.detach() * count / (count - 1))
        scale = (variance + self.eps).rsqrt()
        normalised = centred * scale.view(shape)
        if self.affine:
            normalised = normalised * self.weight.view(shape) + self.bias.view(shape)
        return normalised.to(batch.dtype)

    @torch.no_grad()
    def _track(self, mean: Tensor, unbiased: Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        momentum = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), momentum)
        self.running_var.lerp_(unbiased.to(self.running_var.dtype), momentum)


class BatchNorm1d(_OverProcesses, nn.BatchNorm1d):
    """`nn.BatchNorm1d` over the samples of all processes."""


class BatchNorm2d(_OverProcesses, nn.BatchNorm2d):
    """`nn.BatchNorm2d` over the samples of all processes."""


class BatchNorm3d(_OverProcesses, nn.BatchNorm3d):
    """`nn.BatchNorm3d` over the samples of all processes."""


OVER_PROCESSES: dict[type[nn.Module], type[nn.Module]] = {
    nn.BatchNorm1d: BatchNorm1d,
    nn.BatchNorm2d: BatchNorm2d,
    nn.BatchNorm3d: BatchNorm3d,
}


def check_shares(samples: int, batch_size: int) -> None:
    """Raise InputError if a process's share of the shortest batch has fewer than two samples: a variance needs two."""
    shortest = samples % batch_size or min(batch_size, samples)
    if distributed.world_size() > 1 and shortest < 2 * distributed.world_size():
        raise InputError(
            f"batch_norm is local and the shortest batch has {shortest} samples for {distributed.world_size()} processes; "
            "expected two for each: choose another batch_size, or batch_norm: synchronised"
        )


def synchronise(model: nn.Module) -> None:
    """Make a model's batch norms normalise over the samples of all processes, in place; its state dict stays as it is.

    Raises InputError for a user's own kind of batch norm.
    """
    for name, module in model.named_modules():
        if type(module) in OVER_PROCESSES:
            # Only the forward pass changes: parameters, buffers and all references to the module stay valid.
            module.__class__ = OVER_PROCESSES[type(module)]
        elif isinstance(module, _BatchNorm) and not isinstance(module, _OverProcesses):
            raise InputError(
                f"{name or 'the model'} is a {type(module).__name__}, which can't normalise over several processes; set "
                "batch_norm: local, or train in one process"
            )


def restore(model: nn.Module) -> None:
    """Undo `synchronise`."""
    own = {changed: kind for kind, changed in OVER_PROCESSES.items()}
    for module in model.modules():
        if type(module) in own:
            module.__class__ = own[type(module)]
