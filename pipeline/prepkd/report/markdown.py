"""The comparison's tables as Markdown."""

import pandas as pd

from prepkd.report.comparison import BASELINES


def to_markdown(table: pd.DataFrame, caption: str) -> str:
    """The table of `compare_runs` above a caption, each accuracy with its spread."""
    shown = pd.DataFrame({"run": table["run"].map("`{}`".format), "n": table["n"]})
    shown["test top-1, %"] = [
        _with_spread(m, s, signed=False) for m, s in zip(table["top1"], table["std"], strict=True)
    ]
    for name, baseline in BASELINES.items():
        if f"minus {name}" in table:
            pairs = zip(table["run"], table[f"minus {name}"], table[f"se {name}"], strict=True)
            shown[f"minus {name}"] = [
                "" if run == baseline or pd.isna(d) else _with_spread(d, se, signed=True) for run, d, se in pairs
            ]
    shown["NLL"] = table["nll"].map("{:.3f}".format)
    for title, name in (("ECE, %", "ece"), ("agreement, %", "agreement"), ("genetic errors, %", "genetic_errors")):
        shown[title] = table[name].map("{:.2f}".format)
    return f"{shown.to_markdown(index=False, disable_numparse=True)}\n\n{caption}\n"


def wide_markdown(wide: pd.DataFrame, caption: str) -> str:
    """The table of `wide_form` above a caption, each mean with its spread."""
    shown = pd.DataFrame({"run": wide["run"].map("`{}`".format)})
    for name in wide.columns[1::2]:
        pairs = zip(wide[name], wide[f"{name} std"], strict=True)
        shown[name] = [_with_spread(mean, std, signed=False) for mean, std in pairs]
    return f"{shown.to_markdown(index=False, disable_numparse=True)}\n\n{caption}\n"


def fitting(markdown: str, width: int) -> str:
    """The text with its tables cut to the columns that fit a width in characters; the first column always stays."""
    lines = []
    for line in markdown.splitlines():
        whole = not line.startswith("|") or len(line) <= width
        lines.append(line if whole else line[: max(line.index("|", 1), line.rfind("|", 0, width)) + 1])
    return "\n".join(lines)


def _with_spread(value: float, spread: float | None, *, signed: bool) -> str:
    text = f"{value:+.2f}" if signed else f"{value:.2f}"
    return text if spread is None or pd.isna(spread) else f"{text} +- {spread:.2f}"
