"""Figures of the drill experiment as PNG files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from models.drill.claims import published
from models.drill.data import RATE_HZ, Float64
from models.drill.summary import Summary
from models.metrics import Interval
from operators.spectral import hann
from pipeline.errors import MissingExtra

_BLUE, _ORANGE, _GREY = "#1f5fa8", "#d9772b", "#8a8a8a"


def draw(summary: Summary, folder: Path) -> list[Path]:
    """Draw what there is.

    Args:
        summary: from `summarise`.
        folder: made if it is not there.

    Returns:
        Paths of the figures.

    Raises:
        MissingExtra: without matplotlib.
    """
    try:
        import matplotlib as mpl
    except ImportError as error:
        raise MissingExtra("train", "drawing figures") from error
    mpl.use("Agg")
    mpl.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "figure.dpi": 120})
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    if summary.leak_free:
        made.append(_arms(summary, folder / "drill-arms.png"))
    if summary.paper:
        made.append(_accuracies(summary, folder / "drill-paper-protocol.png"))
    if summary.examples:
        made.append(_sounds(summary, folder / "drill-sounds.png"))
        made.append(_coherence(summary, folder / "drill-coherence.png"))
    return made


def _arms(summary: Summary, path: Path) -> Path:
    """AUC of every arm under the leak-free protocol, with intervals."""
    from matplotlib import pyplot as plt

    names = list(dict.fromkeys(row.classifier for row in summary.leak_free))
    figure, axes = plt.subplots(1, len(names), figsize=(4.0 * len(names), 4.2), sharex=True, squeeze=False)
    for ax, name in zip(axes[0], names, strict=True):
        rows = [r for r in summary.leak_free if r.classifier == name]
        for i, row in enumerate(rows):
            verdict = row.gain.verdict if row.gain else ""
            colour = {"helps": _BLUE, "harms": _ORANGE}.get(verdict, _GREY)
            ax.errorbar(row.auc.value, i, xerr=_bars(row.auc), fmt="o", color=colour, capsize=3)
        ax.set_yticks(range(len(rows)), [r.arm for r in rows])
        ax.invert_yaxis()
        ax.axvline(0.5, color="black", lw=0.6, ls=":")
        title = name.replace(" (", "\n(")
        ax.set_title(f"{title}\n{max(r.repeats for r in rows)} × {summary.folds} folds")
        ax.set_xlabel("AUC on held-out events, 95 % over events")
    figure.suptitle("Leak-free; blue: gain over 'none' shown, orange: loss shown, grey: neither")
    return _save(figure, path)


def _accuracies(summary: Summary, path: Path) -> Path:
    """Published accuracies and ours in the paper's protocol, with Wilson intervals."""
    from matplotlib import pyplot as plt

    rows = [(f"{p.network}, {p.what} (published)", p.interval, _GREY) for p in published() if "only" not in p.what]
    rows += [
        (f"{p.network}, {p.what} (published)", p.interval, _GREY) for p in published() if p.what == "originals only"
    ]
    rows += [(f"{r.classifier}, {r.what} ({summary.source})", r.first, _BLUE) for r in summary.paper]
    figure, ax = plt.subplots(figsize=(7.5, 0.32 * len(rows) + 1.2))
    for i, (_, v, colour) in enumerate(rows):
        ax.errorbar(v.value, i, xerr=_bars(v), fmt="o", color=colour, capsize=3)
    ax.set_yticks(range(len(rows)), [name for name, _, _ in rows])
    ax.invert_yaxis()
    ax.set_xlabel("accuracy in the paper's protocol, Wilson 95 %")
    return _save(figure, path)


def _bars(v: Interval) -> list[list[float]]:
    """Lengths to the left and to the right; an interval by percentiles may lie beside its figure."""
    return [[max(0.0, v.value - v.low)], [max(0.0, v.high - v.value)]]


def _spectrum(x: Float64) -> tuple[Float64, Float64, Float64]:
    """Frequencies and quartiles over the sounds of their power spectra in dB; x of shape (n, samples)."""
    frames = np.lib.stride_tricks.sliding_window_view(x, 256, axis=1)[:, ::128] * hann(256)
    power = 10.0 * np.log10(np.mean(np.abs(np.fft.rfft(frames, axis=2)) ** 2, axis=1) + 1e-20)
    return np.median(power, axis=0), np.quantile(power, 0.25, axis=0), np.quantile(power, 0.75, axis=0)


def _sounds(summary: Summary, path: Path) -> Path:
    """A recorded and a synthetic sound of each class, their spectra, and the training of the autoencoder."""
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(2, 3, figsize=(11.0, 5.4))
    f = np.arange(129) * (RATE_HZ / 256) / 1000.0
    for (name, (real, made)), line in zip(summary.examples.items(), axes, strict=True):
        t = np.arange(real.shape[1]) / RATE_HZ * 1000.0
        lower = 1.1 * (np.abs(real[0]).max() + np.abs(made[0]).max())
        line[0].plot(t, real[0], color=_GREY, lw=0.6, label="recorded")
        line[0].plot(t, made[0] - lower, color=_BLUE, lw=0.6, label=f"synthetic, drawn {lower:.2g} lower")
        line[0].set(title=f"{name}: one sound of each", xlabel="ms", ylabel="full scale")
        line[0].set_ylim(top=real[0].max() + 0.9 * lower)
        line[0].legend(frameon=False, loc="upper right")
        for x, colour, kind in ((real, _GREY, "recorded"), (made, _BLUE, "synthetic")):
            middle, low, high = _spectrum(x)
            line[1].plot(f, middle, color=colour, label=kind)
            line[1].fill_between(f, low, high, color=colour, alpha=0.25)
        line[1].set(title="power spectra, median and quartiles", xlabel="kHz", ylabel="dB", xlim=(0, 30))
        line[1].legend(frameon=False)
        line[2].plot(range(1, len(summary.elbo[name]) + 1), summary.elbo[name], color=_BLUE, marker=".")
        line[2].set_xlim(0.5, len(summary.elbo[name]) + 0.5)
        line[2].xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        line[2].set(title="ELBO per sound in training", xlabel="epoch", ylabel="nats")
    return _save(figure, path)


def _coherence(summary: Summary, path: Path) -> Path:
    """The pair with the highest coherence of each class, beside what chance gives."""
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, len(summary.similar), figsize=(9.0, 3.0), sharey=True, squeeze=False)
    for (name, found), ax in zip(summary.similar.items(), axes[0], strict=True):
        c = found.example
        ax.plot(c.f_hz / 1000.0, c.coherence, color=_BLUE)
        ax.axhline(c.floor, color=_GREY, ls=":", label=f"mean of noise {c.floor:.2f}")
        ax.axhline(c.point95, color=_ORANGE, ls="--", label=f"95 % of one bin {c.point95:.2f}")
        ax.set(title=f"{name}: best of the pairs, p of the maximum {c.p_maximum:.2f}", xlabel="kHz", xlim=(0, 22))
        ax.legend(frameon=False)
    axes[0][0].set_ylabel("coherence")
    return _save(figure, path)


def _save(figure: object, path: Path) -> Path:
    from matplotlib import pyplot as plt
    from matplotlib.figure import Figure

    assert isinstance(figure, Figure)
    figure.tight_layout()
    figure.savefig(path, metadata={"Software": None}, dpi=90)
    plt.close(figure)
    return path
