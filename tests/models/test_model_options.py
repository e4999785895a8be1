"""Invalid values of model options are refused, with the name of the option."""

import dataclasses

import pytest
from fairseq.models import MODEL_REGISTRY
from toys import build

from fairseq_nart.models._registry import SYSTEMS
from fairseq_nart.tasks import nart_translation  # noqa: F401  (registers all systems)

MODELS = [MODEL_REGISTRY[system.model] for system in SYSTEMS.values()]
CONFIGS = [model.Config for model in MODELS if hasattr(model, "Config")]


def test_every_number_has_a_lower_bound():
    fields = {f.name: f for config in CONFIGS for f in dataclasses.fields(config)}
    numbers = [f for f in fields.values() if f.type in (int, float)]
    assert len(numbers) > 15
    assert not [f.name for f in numbers if "at least" not in f.metadata]


@pytest.mark.parametrize(
    ("system", "option", "value", "expected"),
    [
        ("nart", "--encoder-layers", "0", "at least 1"),
        ("nart", "--embed-dim", "2", "at least 4"),
        ("nart", "--ffn-embed-dim", "-1", "at least 1"),
        ("nart", "--attention-heads", "0", "at least 1"),
        ("nart", "--dropout", "nan", "a finite number at least 0 and below 1"),
        ("nart", "--attention-dropout", "1.0", "at least 0 and below 1"),
        ("nart", "--label-smoothing", "-0.1", "at least 0 and below 1"),
        ("nart", "--length-loss-weight", "inf", "a finite number at least 0"),
        ("nart_crf", "--crf-rank", "0", "at least 1"),
        ("nart_dcrf", "--crf-candidates", "0", "at least 1"),
        ("nart_crf", "--nar-loss-weight", "-1.0", "at least 0"),
        ("nart_ctc", "--ctc-split", "0", "at least 1"),
        ("nart_dag", "--dag-vertices", "1", "at least 2"),
        ("nart_refinement", "--train-iterations", "0", "at least 1"),
        ("nart_refinement", "--denoising-probability", "1.5", "at least 0 and at most 1"),
        ("nart_fertility", "--finetune-weight", "nan", "a finite number at least 0 and at most 1"),
    ],
)
def test_numbers_out_of_range_are_refused(system, option, value, expected, task):
    with pytest.raises(ValueError, match=f"^{option} must be {expected}, not {value}$"):
        build(task, f"{system}_tiny", option, value)


def test_width_must_be_a_multiple_of_the_heads(task):
    with pytest.raises(ValueError, match="--embed-dim 18 must be a multiple of --attention-heads"):
        build(task, "nart_tiny", "--embed-dim", "18")
