"""Drill failures from very short sounds, with sounds that a variational autoencoder adds (arXiv 2209.11527).

`vae`, `elbo`, `train` and `synthesis` make the sounds, `similarity` says what they are worth, `protocol` and `grid`
measure classifiers by the paper's way and without its leaks, `claims` decides what may be said about the gain.
"""
