"""The autoregressive teachers: fairseq's own models in the sizes of our students."""

from fairseq_nart.models._presets import SYSTEMS, register_sizes

for name, system in SYSTEMS.items():
    if system.teacher:
        register_sizes(name)
