"""Draw dynamic-temperature.png: the temperature of a sample by its weight, in one batch."""

from pathlib import Path

import torch
from matplotlib import pyplot
from prepkd.losses import dynamic_temperature

TAU_0, TAU_MIN, TAU_MAX = 4.0, 1.0, 40.0
# By the axis' label: the weights of a batch, and betas.
PANELS = {
    "FLSW: w = 1 - cos(student, teacher)": (torch.linspace(0, 2, 201), (1.0, 2.0, 4.0)),
    "CWSM, 100 classes: w = 1 / max softmax(student)": (torch.linspace(1, 100, 397), (0.05, 0.1, 0.2)),
}

figure, axes = pyplot.subplots(1, 2, figsize=(9, 3.2), sharey=False, layout="constrained")
for axis, (label, (weights, betas)) in zip(axes, PANELS.items(), strict=True):
    for beta in betas:
        tau = dynamic_temperature(weights, tau_0=TAU_0, beta=beta, tau_min=TAU_MIN, tau_max=TAU_MAX)
        axis.plot(weights, tau, label=f"beta {beta:g}")
    axis.axhline(TAU_0, color="grey", linewidth=0.8, linestyle=":")
    axis.set(xlabel=label, ylabel="temperature")
    axis.legend(frameon=False)
figure.savefig(Path(__file__).with_name("dynamic-temperature.png"), dpi=110)
