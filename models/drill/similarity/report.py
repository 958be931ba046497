"""All similarity figures of one set of synthetic sounds, each beside what recorded sounds or noise would give."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from models.drill.data import Float64, centre
from models.drill.similarity.coherence import Coherence, coherence
from models.drill.similarity.correlation import against_noise
from models.drill.similarity.distances import diversity, log_spectral_distance, mmd, nearest_ratio, two_sample
from models.drill.spectrogram import band_levels

_PAIRS = 24
_ALPHA = 0.05


@dataclass(frozen=True, slots=True)
class Pairs:
    """Pairs of sounds: medians over them, and in how many the value stands out of chance at 5 %.

    Attributes:
        correlation: median peak of the normalised cross-correlation.
        correlation_noise: the same for white noise of these lengths.
        correlation_significant: share of pairs with p <= 0.05.
        coherence: median of the largest coherence up to 22 kHz.
        coherence_significant: share of pairs whose permutation p of the maximum is <= 0.05.
        log_spectral_db: median log-spectral distance, 1-22 kHz.
    """

    correlation: float
    correlation_noise: float
    correlation_significant: float
    coherence: float
    coherence_significant: float
    log_spectral_db: float


@dataclass(frozen=True, slots=True, eq=False)
class Similarity:
    """What synthetic sounds of one class are worth.

    Attributes:
        synthetic: pairs of a held-out recorded and a synthetic sound.
        recorded: pairs of a held-out and a training sound: what can be expected at best.
        example: coherence of the pair with the highest maximum.
        mmd: squared maximum mean discrepancy of the band levels, synthetic against held-out.
        mmd_p: its permutation p.
        c2st: accuracy of telling them apart, 0.5 is perfect.
        c2st_p: its binomial p.
        nearest: distance to the nearest training sound against that between training sounds; well below 1 means copies.
        diversity: of the synthetics against the training sounds; aim for 0.7-1.3.
    """

    synthetic: Pairs
    recorded: Pairs
    example: Coherence
    mmd: float
    mmd_p: float
    c2st: float
    c2st_p: float
    nearest: float
    diversity: float


def similarity(
    held_out: Sequence[Float64], training: Sequence[Float64], synthetic: Float64, seed: int = 0
) -> Similarity:
    """Compare synthetic sounds of one class with those that their network never saw.

    Args:
        held_out: recorded, of any length; the network was not trained on them.
        training: recorded; the network was.
        synthetic: shape (n, 1999).
        seed: of pairs and permutations.
    """
    middle = np.stack([centre(x) for x in training])
    levels, own, real = band_levels(synthetic), band_levels(middle), band_levels([centre(x) for x in held_out])
    made, best = _pairs(held_out, list(synthetic), seed)
    discrepancy, told = mmd(real, levels, seed=seed), two_sample(real, levels, seed)
    return Similarity(
        synthetic=made,
        recorded=_pairs(held_out, list(middle), seed)[0],
        example=best,
        mmd=discrepancy.value,
        mmd_p=discrepancy.p,
        c2st=told.accuracy,
        c2st_p=told.p,
        nearest=nearest_ratio(levels, own),
        diversity=diversity(levels, own),
    )


def _pairs(first: Sequence[Float64], second: Sequence[Float64], seed: int) -> tuple[Pairs, Coherence]:
    rng = np.random.default_rng(seed)
    everything = list(product(range(len(first)), range(len(second))))
    chosen = [everything[i] for i in rng.permutation(len(everything))[:_PAIRS]]
    peaks = [against_noise(first[i], second[j], 199, seed) for i, j in chosen]
    spectra = [coherence(centre(first[i]), second[j], seed=seed + n) for n, (i, j) in enumerate(chosen)]
    distances = [log_spectral_distance(centre(first[i]), second[j]) for i, j in chosen]
    heights = [_top(c) for c in spectra]
    return Pairs(
        correlation=float(np.median([c.peak for c in peaks])),
        correlation_noise=float(np.median([c.noise for c in peaks])),
        correlation_significant=float(np.mean([c.p <= _ALPHA for c in peaks])),
        coherence=float(np.median(heights)),
        coherence_significant=float(np.mean([c.significant for c in spectra])),
        log_spectral_db=float(np.median(distances)),
    ), spectra[int(np.argmax(heights))]


def _top(c: Coherence) -> float:
    heard = (c.f_hz > 0.0) & (c.f_hz <= 22_000.0)
    return float(c.coherence[heard].max())
