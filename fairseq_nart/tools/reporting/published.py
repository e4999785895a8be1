"""Published results: tables of papers, separate from measurements."""

from collections.abc import Callable, Sequence

from fairseq_nart.tools.reporting.markup import TIMES, Table

_Rows = dict[str, tuple[Sequence[float | None], str, str]]
"""By system: BLEU on each test set, milliseconds per sentence and speed-up as printed."""

_TEACHER = "Transformer, beam 4"
_SUN2019: _Rows = {
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
"""On WMT14 En-De, WMT14 De-En and IWSLT14 De-En. Speed-ups come from unrounded times."""

_GU2018: _Rows = {
    _TEACHER: ((23.45, 27.02, None, None, None), "", "1.00"),
    "NAT with fertilities, fine-tuned": ((17.69, 21.47, None, None, None), "39", "15.6"),
    "NAT with fertilities, fine-tuned, 10 samples": (
        (18.66, 22.41, None, None, None),
        "79",
        "7.68",
    ),
    "NAT with fertilities, fine-tuned, 100 samples": (
        (19.17, 23.20, 29.79, 31.44, 28.16),
        "257",
        "2.36",
    ),
}
"""On WMT14 En-De, WMT14 De-En, WMT16 En-Ro, WMT16 Ro-En and IWSLT16 En-De: what Table 2 of
arXiv 1910.11555 quotes, with the gaps from which the teacher's BLEU follows, and the public list of
results for the other sets."""


def sun2019() -> Table:
    """The published figures, gaps to the authors' Transformer in parentheses."""
    return _table(
        "Sun et al. 2019",
        ["WMT14 En-De", "WMT14 De-En", "IWSLT14 De-En"],
        _SUN2019,
        _TEACHER,
        "Table 2 of arXiv 1910.11555: other data, other model sizes, the authors' own machine and "
        "BLEU script. Their BLEU and times are not comparable with those measured here; the order "
        "of the systems is, and roughly the gaps.",
    )


def gu2018() -> Table:
    """The published figures of fine-tuned NAT with fertilities, as `sun2019`."""
    return _table(
        "Gu et al. 2018",
        ["WMT14 En-De", "WMT14 De-En", "WMT16 En-Ro", "WMT16 Ro-En", "IWSLT16 En-De"],
        _GU2018,
        _TEACHER,
        "arXiv 1711.02281, only figures that later papers or lists of results confirm: tokenised "
        "BLEU, other data, other model sizes and the authors' own machine. Their BLEU and times "
        "are not comparable with those measured here.",
    )


def _table(title: str, sets: list[str], rows: _Rows, teacher: str, note: str) -> Table:
    best = rows[teacher][0]
    cells = [
        [
            system,
            *(_cell(*pair, system == teacher) for pair in zip(scores, best, strict=True)),
            milliseconds,
            speed_up + TIMES,
        ]
        for system, (scores, milliseconds, speed_up) in rows.items()
    ]
    header = ["system", *sets, "latency, ms", "speed-up"]
    return Table(f"Published by {title}, not measured here", header, cells, note)


def _cell(score: float | None, best: float | None, is_teacher: bool) -> str:
    """BLEU with the gap to the teacher, as far as they are known."""
    if score is None:
        return ""
    gap = "" if is_teacher or best is None else f" ({best - score:.2f})"
    return f"{score:.2f}{gap}"


TABLES: dict[str, Callable[[], Table]] = {"sun2019": sun2019, "gu2018": gu2018}
"""By the name that `fairseq-nart report --published` takes."""
