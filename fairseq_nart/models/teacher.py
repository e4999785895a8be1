"""The autoregressive teacher: fairseq's own Transformer in the sizes of our students."""

from fairseq_nart.models._presets import TEACHER, register_sizes

register_sizes("transformer", TEACHER)
