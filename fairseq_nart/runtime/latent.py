"""Discrete latents: a predictor chooses one after the other, the decoder fills all positions."""

import numpy as np

from fairseq_nart.layers import noise
from fairseq_nart.runtime.states import Decoded, Floats, Ints, Source, Targets
from fairseq_nart.runtime.system import System


class Runtime(System):
    """Decodes as `LatentModel` does."""

    timed = (("propose", "latents"),)

    def sentence_elements(self, source: int) -> int:
        """Elements of the largest array before decoding, for all samples of a sentence."""
        constants, samples = self.manifest.constants, int(self.options.latent_samples)
        longest = int(self._most(np.array(source)))
        cache = (longest + 1) * constants["predictor_width"]
        attention = self.manifest.heads * max(longest + 1, source)
        row: int = max(constants["end"] + 1, self.manifest.ffn_dim, cache, attention)
        return max(super().sentence_elements(source), samples * row)

    def _most(self, source_lengths: Ints) -> Ints:
        """source_lengths (B,) -> (B,) the most latents of an output."""
        constants = self.manifest.constants
        tokens = np.minimum(constants["longest"] * source_lengths, self.manifest.longest_target)
        most: Ints = -(-tokens // constants["compression"])
        return most

    def propose(self, source: Source) -> Targets:
        """The most probable latents, one after the other, then samples; at least one latent."""
        constants, count = self.manifest.constants, int(self.options.latent_samples)
        end = constants["end"]
        most = np.repeat(self._most(source.mask.sum(axis=1))[:, None], count, axis=1)  # (B,N)
        lengths = most.copy()
        latents = np.zeros((*most.shape, int(most.max())), np.int64)
        log_probs = np.zeros(latents.shape, np.float32)
        going = np.ones_like(most, bool)
        chosen = np.full_like(most, end)
        cache = np.zeros((most.size, 0, constants["predictor_width"]), np.float32)
        for step in range(latents.shape[2]):
            outputs = self.graphs["predict"](
                source_mask=source.mask, previous=chosen.reshape(-1), cache=cache, **source.encoded
            )
            logits, cache = outputs["logits"], outputs["longer"]
            if step == 0:
                logits[:, end] = -np.inf
            scores = log_softmax(logits).reshape(*most.shape, -1)
            chosen = (scores + _noise(count, step, end + 1)).argmax(axis=2)
            log = np.take_along_axis(scores, chosen[..., None], 2)[..., 0]
            ended = going & (chosen == end)
            going &= ~ended
            latents[..., step] = np.where(going, chosen, 0)
            log_probs[..., step] = np.where(going, log, 0)
            log_probs[..., step - 1] += np.where(ended, log, 0)
            lengths[ended] = step
            going &= step + 1 < most
            if not going.any():
                break
        more = {"latents": latents, "log_probs": log_probs}
        return Targets(constants["compression"] * lengths, np.ones_like(going), more)

    def decode(self, source: Source, targets: Targets, scored: bool) -> Decoded:
        """A latent's log-probability is part of that of the first of its tokens."""
        positions, compression = targets.mask(), self.manifest.constants["compression"]
        mask = positions[:, ::compression]
        latents, extra = (
            targets.more[name].reshape(len(mask), -1)[:, : mask.shape[1]]
            for name in ("latents", "log_probs")
        )
        outputs = self.graphs["decode"](
            source_mask=source.mask, latents=latents, mask=mask, **source.encoded
        )
        log_probs = outputs["log_probs"]
        log_probs[:, ::compression] += extra
        return Decoded(outputs["best"], log_probs, positions, targets.valid)


def _noise(count: int, step: int, classes: int) -> Floats:
    """(count,classes): 0 for the first candidate, Gumbel noise for the samples."""
    windows = np.lib.stride_tricks.sliding_window_view(noise.table(), classes)
    samples = windows[noise.offsets(count, step, classes)]
    samples[0] = 0.0
    return samples


def log_softmax(logits: Floats) -> Floats:
    """logits (R,K) -> (R,K) log-probabilities."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    result: Floats = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return result
