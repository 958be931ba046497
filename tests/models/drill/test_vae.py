"""Network, bound and training against the acceptance table: shapes, 570,181 parameters, closed forms, resumption."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import norm
from torch.nn import functional

from models.drill.data import Sound, centred
from models.drill.elbo import Objective, log_likelihood, log_normal, negative_elbo
from models.drill.synthesis import sample, synthesise
from models.drill.train import Training, to_unit, train
from models.drill.vae import Vae, VaeSettings
from pipeline.errors import StateError


def count(module: torch.nn.Module) -> int:
    return torch.nn.utils.parameters_to_vector(module.parameters()).numel()


def test_shapes_and_parameters() -> None:
    network = Vae()
    mean, log_var = network.encode(torch.rand(3, 1999))
    assert mean.shape == log_var.shape == (3, 2)
    assert network.decode(mean).shape == (3, 1999)
    assert count(network) == 570_181
    assert count(network.encoder) + count(network.to_latent) == 293_156
    assert count(network.decoder) + count(network.from_latent) == 277_025


def test_latent_and_conditional_options() -> None:
    network = Vae(VaeSettings(latent=16, classes=2))
    label = torch.eye(2)[torch.tensor([0, 1, 1])]
    mean, _ = network.encode(torch.rand(3, 1999), label)
    assert mean.shape == (3, 16)
    assert network.decode(mean, label).shape == (3, 1999)
    with pytest.raises(ValueError, match="class"):
        network.encode(torch.rand(3, 1999))


def test_the_class_decides_what_is_decoded() -> None:
    """Of the same latent numbers, and of sounds drawn from the prior: rings of 3 and of 12 kHz, which last unlike long.

    Most, not all: the latent numbers of a short training know something of the class, too. A network that does not
    hear the class gets one half at most right where it counts, of the worse class.
    """
    random, t = np.random.default_rng(2), np.arange(1999) / 96_000
    classes = np.repeat([0.0, 1.0], 16)
    lasts_s = np.exp(random.uniform(np.log(0.002), np.log(0.02), (32, 1)))
    rings = np.sin(2 * np.pi * np.where(classes, 12_000.0, 3000.0)[:, None] * t) * np.exp(-t / lasts_s)
    x = rings + 0.02 * random.standard_normal(rings.shape)
    trained = train(x, Training(epochs=30, batch=4, rate=5e-4, seed=1, network=VaeSettings(classes=2)), classes)

    def spectra(sounds: np.ndarray) -> np.ndarray:
        found = np.abs(np.fft.rfft(sounds - sounds.mean(axis=1, keepdims=True)))
        return found / np.linalg.norm(found, axis=1, keepdims=True)

    means = [spectra(x[classes == label]).mean(axis=0) for label in (0, 1)]
    z = torch.from_numpy(random.standard_normal((200, 2)).astype(np.float32))
    for label in (0, 1):
        with torch.no_grad():
            told = torch.eye(2)[torch.full((200,), label)]
            decoded = torch.sigmoid(trained.network.decode(z, told)).numpy()
        for made in (decoded, sample(trained, 200, 0, label)):
            own, other = (np.linalg.norm(spectra(made) - means[k], axis=1) for k in (label, 1 - label))
            assert (own < other).mean() > 0.65  # chance: 0.5 within 0.1


def test_log_normal_is_that_of_scipy() -> None:
    rng = np.random.default_rng(0)
    z, mean, log_var = (rng.standard_normal((5, 2)) for _ in range(3))
    expected = norm.logpdf(z, mean, np.exp(0.5 * log_var)).sum(axis=1)
    got = log_normal(*(torch.from_numpy(a) for a in (z, mean, log_var)))
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-12)


def test_likelihoods_are_their_densities() -> None:
    rng = np.random.default_rng(1)
    logits, x = torch.from_numpy(rng.standard_normal((4, 9))), torch.from_numpy(rng.random((4, 9)))
    p = 1.0 / (1.0 + np.exp(-logits.numpy()))
    bernoulli = (x.numpy() * np.log(p) + (1 - x.numpy()) * np.log(1 - p)).sum(axis=1)
    np.testing.assert_allclose(log_likelihood(logits, x, "bernoulli").numpy(), bernoulli)
    np.testing.assert_allclose(
        log_likelihood(logits, x, "gaussian").numpy(), norm.logpdf(x.numpy(), p, 0.1).sum(axis=1)
    )
    laplace = (-np.abs(x.numpy() - p) / 0.1 - np.log(0.2)).sum(axis=1)
    np.testing.assert_allclose(log_likelihood(logits, x, "l1").numpy(), laplace)


def test_one_sample_bound_averages_to_the_closed_form() -> None:
    """The mean of log p(z) - log q(z|x) over many samples is minus the Kullback-Leibler divergence."""
    mean, log_var = torch.tensor([[0.7, -0.3]]), torch.tensor([[-1.0, 0.5]])
    random = torch.Generator().manual_seed(0)
    z = mean + torch.exp(0.5 * log_var) * torch.randn(200_000, 2, generator=random)
    zero = torch.zeros_like(z)
    estimate = (log_normal(z, zero, zero) - log_normal(z, mean, log_var)).mean()
    closed = -0.5 * (torch.exp(log_var) + mean**2 - 1.0 - log_var).sum()
    assert float(estimate) == pytest.approx(float(closed), abs=0.01)


def test_loss_is_the_whole_bound() -> None:
    torch.manual_seed(0)
    network, x, noise = Vae().eval(), torch.rand(2, 1999), torch.randn(2, 2)
    terms = negative_elbo(network, x, noise, Objective())
    mean, log_var = network.encode(x)
    z = mean + torch.exp(0.5 * log_var) * noise
    fit = -functional.binary_cross_entropy_with_logits(network.decode(z), x, reduction="none").sum(dim=1)
    zero = torch.zeros_like(z)
    whole = (fit + log_normal(z, zero, zero) - log_normal(z, mean, log_var)).detach()
    assert (
        float(terms.loss.detach()) == pytest.approx(-float(whole.mean()), rel=1e-6) == pytest.approx(-float(terms.elbo))
    )
    with pytest.raises(ValueError, match="0, 1"):
        negative_elbo(network, x * 2.0, noise, Objective())


def test_options_change_the_loss_alone() -> None:
    torch.manual_seed(0)
    network, x, noise = Vae().eval(), torch.rand(2, 1999), torch.randn(2, 2)
    plain, spectral = (negative_elbo(network, x, noise, Objective(stft=w)) for w in (0.0, 10.0))
    assert float(spectral.loss.detach()) > float(plain.loss.detach())
    assert float(spectral.elbo) == float(plain.elbo)
    assert [Objective(warm_up_epochs=5).beta(e) for e in (0, 1, 5, 9)] == [0.0, 0.2, 1.0, 1.0]
    assert Objective().beta(0) == 1.0


def test_bound_rises_over_twenty_epochs_and_levels_are_kept(sounds: list[Sound]) -> None:
    x = centred([s for s in sounds if s.anomaly][:8])
    scaled, peaks = to_unit(x)
    assert scaled.min() >= 0.0 and scaled.max() <= 1.0
    np.testing.assert_allclose((2.0 * scaled - 1.0) * peaks[:, None], x, atol=1e-15)
    trained = train(x, Training(epochs=20))
    elbo = np.array(trained.elbo)
    assert np.isfinite(elbo).all()
    assert elbo[-5:].mean() > elbo[:5].mean() and elbo[-1] > elbo[0]
    made = sample(trained, 6, 0)
    assert made.shape == (6, 1999)
    assert set(np.round(np.abs(made).max(axis=1), 12)) <= set(np.round(peaks, 12))


def test_same_seed_same_bits_and_an_interruption_changes_nothing(sounds: list[Sound], tmp_path: Path) -> None:
    x = centred(sounds[:4])
    whole = train(x, Training(epochs=3, batch=2))
    train(x, Training(epochs=1, batch=2), checkpoint=tmp_path / "vae.pt")
    resumed = train(x, Training(epochs=3, batch=2), checkpoint=tmp_path / "vae.pt")
    assert whole.elbo == resumed.elbo
    for a, b in zip(whole.network.state_dict().values(), resumed.network.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    with pytest.raises(StateError, match="other settings"):
        train(x, Training(epochs=3, batch=2, seed=1), checkpoint=tmp_path / "vae.pt")


def test_a_loss_that_is_no_number_tells_what_can_be_asked_for(sounds: list[Sound]) -> None:
    with pytest.raises(StateError, match="another --likelihood or --seed, or a smaller --stft, and another --out"):
        train(centred(sounds[:4]), Training(epochs=5, batch=2, rate=1e30))


def test_synthetic_sounds_name_their_parents(sounds: list[Sound]) -> None:
    networks = [train(centred(sounds[:2]), Training(epochs=1)) for _ in range(2)]
    made = synthesise(networks, [frozenset({"a"}), frozenset({"b", "c"})], 5, 0)
    assert made.target.tolist() == [0.0, 0.0, 0.0, 1.0, 1.0]
    assert made.parents == (frozenset({"a"}),) * 3 + (frozenset({"b", "c"}),) * 2
    made.guard(frozenset({"d"}))
    with pytest.raises(StateError, match=r"leak.*event c"):
        made.guard(frozenset({"c"}))
