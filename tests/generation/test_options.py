"""Values of decoding options that cannot be."""

import pytest

from fairseq_nart.generation.options import DecodingOptions


@pytest.mark.parametrize(
    "option, said",
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
            "jaccard compares 5 passes .* ends none of 5: give --refinement-iterations 6 or more",
        ),
        ({"fertility_decoding": "mode"}, "--fertility-decoding must be one of argmax, average, "),
    ],
)
def test_refusals(option, said):
    with pytest.raises(ValueError, match=said):
        DecodingOptions(**option)


def test_passes_of_a_refining_system():
    assert DecodingOptions().decoder_passes() == 10
    assert DecodingOptions(refinement_stop="jaccard").decoder_passes() == 20
    assert DecodingOptions(refinement_iterations=3).decoder_passes() == 3
