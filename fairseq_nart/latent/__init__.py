"""Discrete latent variables of a target: autoencoder, quantisers and latent predictor."""
