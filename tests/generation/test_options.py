"""Invalid values of decoding options."""

import pytest

from fairseq_nart.generation.options import LengthDecoding, PathDecoding, StoppingDecoding
from fairseq_nart.models._heads import CrfDecoding
from fairseq_nart.models.nart_ctc import CtcDecoding
from fairseq_nart.models.nart_fertility import FertilityDecoding


@pytest.mark.parametrize(
    "option, message",
    [
        *(
            ({"length_candidates": n}, rf"--length-candidates must be odd .*, not {n}$")
            for n in (0, 2, -3)
        ),
        ({"crf_paths": 0}, "--crf-paths must be at least 1, not 0"),
        ({"ctc_beam": 0}, "--ctc-beam must be at least 1, not 0"),
        ({"fertility_samples": 0}, "--fertility-samples must be at least 1, not 0"),
        ({"refinement_iterations": 0}, "--refinement-iterations must be at least 1, not 0"),
        ({"refinement_stop": "oracle"}, "--refinement-stop must be one of none, .*, not 'oracle'"),
        (
            {"refinement_stop": "jaccard", "refinement_iterations": 5},
            "jaccard compares 5 passes, so 5 are too few: give --refinement-iterations 6 or more",
        ),
        ({"dag_paths": 0}, "--dag-paths must be at least 1, not 0"),
        ({"dag_length_penalty": -1.0}, "--dag-length-penalty must be at least 0, not -1.0"),
        ({"dag_search": "beam"}, "--dag-search must be one of greedy, lookahead, viterbi, not"),
        (
            {"dag_paths": 3, "dag_search": "greedy"},
            "--dag-paths is for --dag-search viterbi, not greedy: leave one of the two out",
        ),
        ({"fertility_decoding": "mode"}, "--fertility-decoding must be one of argmax, average, "),
    ],
)
def test_invalid_values_are_refused(option, message):
    with pytest.raises(ValueError, match=message):
        class_of(*option)(**option)


def class_of(name, *_):
    """The class that has the option."""
    kinds = (LengthDecoding, StoppingDecoding, CrfDecoding, CtcDecoding, FertilityDecoding)
    kinds = (*kinds, PathDecoding)
    return next(kind for kind in kinds if name in kind.__dataclass_fields__)


def test_decoder_passes_of_refinement():
    assert StoppingDecoding().decoder_passes() == 10
    assert StoppingDecoding(refinement_stop="jaccard").decoder_passes() == 20
    assert StoppingDecoding(refinement_iterations=3).decoder_passes() == 3
