"""Published results: tables of papers, separate from measurements."""

from fairseq_nart.tools.reporting.markup import TIMES, Table

_SUN2019 = """
LSTM                               | 24.60       |             | 28.53        |    |
ConvS2S                            | 26.43       |             | 32.84        |    |
Transformer, beam 4                | 27.41       | 31.29       | 33.26        | 387| 1.00x
NAT with fertilities               | 17.69 (5.76)| 21.47 (5.55)|              | 39 | 15.6׆
NAT with fertilities, rescoring 10 | 18.66 (4.79)| 22.41 (4.61)|              | 79 | 7.68׆
NAT with fertilities, rescoring 100| 19.17 (4.28)| 23.20 (3.82)|              | 257| 2.36׆
Iterative refinement, adaptive     | 21.54 (3.03)| 25.43 (3.04)|              |    | 2.39׆
Latent Transformer                 | 19.80 (7.50)|             |              | 105|
Latent Transformer, rescoring 10   | 21.00 (6.30)|             |              |    |
Latent Transformer, rescoring 100  | 22.50 (4.80)|             |              |    |
CTC                                | 17.68 (5.77)| 19.80 (7.22)|              |    | 3.42׆
ENAT-P                             | 20.26 (7.15)| 23.23 (8.06)| 25.09 (7.46) | 25 | 24.3׆
ENAT-P, rescoring 9                | 23.22 (4.19)| 26.67 (4.62)| 28.60 (3.95) | 50 | 12.1׆
ENAT-E                             | 20.65 (6.76)| 23.02 (8.27)| 24.13 (8.42) | 24 | 25.3׆
ENAT-E, rescoring 9                | 24.28 (3.13)| 26.10 (5.19)| 27.30 (5.25) | 49 | 12.4׆
NAT-REG                            | 20.65 (6.65)| 24.77 (6.52)| 23.89 (9.63) | 22 | 27.6׆
NAT-REG, rescoring 9               | 24.61 (2.69)| 28.90 (2.39)| 28.04 (5.48) | 40 | 15.1׆
VQ-VAE, 8 tokens per latent        | 26.70 (1.40)|             |              | 81 | 4.08׆
VQ-VAE, 16 tokens per latent       | 25.40 (2.70)|             |              | 58 | 5.71׆
NART                               | 20.27 (7.14)| 22.02 (9.27)| 23.04 (10.22)| 26 | 14.9x
NART, rescoring 9                  | 24.22 (3.19)| 26.21 (5.08)| 26.79 (6.47) | 50 | 7.74x
NART, rescoring 19                 | 24.99 (2.42)| 26.60 (4.69)| 27.36 (5.90) | 74 | 5.22x
NART-CRF                           | 23.32 (4.09)| 25.75 (5.54)| 26.39 (6.87) | 35 | 11.1x
NART-CRF, rescoring 9              | 26.04 (1.37)| 28.88 (2.41)| 29.21 (4.05) | 60 | 6.45x
NART-CRF, rescoring 19             | 26.68 (0.73)| 29.26 (2.03)| 29.55 (3.71) | 87 | 4.45x
NART-DCRF                          | 23.44 (3.97)| 27.22 (4.07)| 27.44 (5.82) | 37 | 10.4x
NART-DCRF, rescoring 9             | 26.07 (1.34)| 29.68 (1.61)| 29.99 (3.27) | 63 | 6.14x
NART-DCRF, rescoring 19            | 26.80 (0.61)| 30.04 (1.25)| 30.36 (2.90) | 88 | 4.39x
"""

_GU2018 = """
Transformer, beam 4              | 23.45       | 27.02       |      |      |      |    | 1.00x
NAT with fertilities             | 17.69 (5.76)| 21.47 (5.55)|      |      |      | 39 | 15.6x
NAT with fertilities, 10 samples | 18.66 (4.79)| 22.41 (4.61)|      |      |      | 79 | 7.68x
NAT with fertilities, 100 samples| 19.17 (4.28)| 23.20 (3.82)| 29.79| 31.44| 28.16| 257| 2.36x
"""


def sun2019() -> Table:
    """Table 2 of Sun et al. (2019), gaps to the teacher of each system in parentheses."""
    return _table(
        "Sun et al. 2019",
        ["WMT14 En-De", "WMT14 De-En", "IWSLT14 De-En"],
        _SUN2019,
        "Table 2 of arXiv 1910.11555: other data, other model sizes, the authors' own machine and "
        "BLEU script. Their BLEU and times are not comparable with those measured here; the order "
        "of the systems is, and roughly the gaps. A gap is to the teacher of the system's own "
        "paper. Figures with † are from other papers and machines. NAT with fertilities is "
        "fine-tuned, and it is not certain that the speed-up in the row CTC belongs there. "
        "Speed-ups come from unrounded times.",
    )


def gu2018() -> Table:
    """The published figures of fine-tuned NAT with fertilities, as `sun2019`."""
    return _table(
        "Gu et al. 2018",
        ["WMT14 En-De", "WMT14 De-En", "WMT16 En-Ro", "WMT16 Ro-En", "IWSLT16 En-De"],
        _GU2018,
        "arXiv 1711.02281, only figures that later papers or lists of results confirm: what Table "
        "2 of arXiv 1910.11555 quotes on WMT14, and the public list of results on the other sets. "
        "Tokenised BLEU, other data, other model sizes and the authors' own machine. Their BLEU "
        "and times are not comparable with those measured here.",
    )


def _table(title: str, sets: list[str], rows: str, note: str) -> Table:
    cells = [[cell.strip() for cell in row.split("|")] for row in rows.strip().splitlines()]
    cells = [[*row, speed_up.replace("x", TIMES)] for *row, speed_up in cells]
    header = ["system", *sets, "latency, ms", "speed-up"]
    return Table(f"Published by {title}, not measured here", header, cells, note)


TABLES = {"sun2019": sun2019, "gu2018": gu2018}
"""By the name that `fairseq-nart report --published` takes."""
