"""The published results: Table 2 of Sun et al. 2019 (arXiv 1910.11555)."""

from fairseq_nart.tools.reporting.markup import TIMES, Table

CHOICES = ("none", "sun2019")

_TEACHER = "Transformer, beam 4"
_TABLE_2 = {
    _TEACHER: ((27.41, 31.29, 33.26), "387", "1.00"),
    "NART": ((20.27, 22.02, 23.04), "26", "14.9"),
    "NART, rescoring 9": ((24.22, 26.21, 26.79), "50", "7.74"),
    "NART, rescoring 19": ((24.99, 26.60, 27.36), "74", "5.22"),
    "NART-CRF": ((23.32, 25.75, 26.39), "35", "11.1"),
    "NART-CRF, rescoring 9": ((26.04, 28.88, 29.21), "60", "6.45"),
    "NART-CRF, rescoring 19": ((26.68, 29.26, 29.55), "87", "4.45"),
    "NART-DCRF": ((23.44, 27.22, 27.44), "37", "10.4"),
    "NART-DCRF, rescoring 9": ((26.07, 29.68, 29.99), "63", "6.14"),
    "NART-DCRF, rescoring 19": ((26.80, 30.04, 30.36), "88", "4.39"),
}
"""BLEU on WMT14 En-De, WMT14 De-En and IWSLT14 De-En; milliseconds per sentence and speed-up as
printed (speed-ups come from unrounded times)."""


def sun2019() -> Table:
    """The published figures, gaps to the authors' Transformer in parentheses."""
    teacher = _TABLE_2[_TEACHER][0]
    rows = []
    for system, (scores, milliseconds, speed_up) in _TABLE_2.items():
        cells = [
            f"{score:.2f}" if system == _TEACHER else f"{score:.2f} ({best - score:.2f})"
            for score, best in zip(scores, teacher, strict=True)
        ]
        rows.append([system, *cells, milliseconds, speed_up + TIMES])
    return Table(
        "Published by Sun et al. 2019, not measured here",
        ["system", "WMT14 En-De", "WMT14 De-En", "IWSLT14 De-En", "latency, ms", "speed-up"],
        rows,
        "Table 2 of arXiv 1910.11555: other data, other model sizes, the authors' own machine and "
        "BLEU script. Their BLEU and times are not comparable with those measured here; the order "
        "of the systems is, and roughly the gaps.",
    )
