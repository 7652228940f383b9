import re

import pytest

from pipeline.report import charts

CHARACTER = 7.0  # widest digit of the chart's 12 px type


def x_labels(svg):
    """(x, text) of the labels below the x axis, left to right."""
    found = re.findall(r'<text x="([\d.]+)" y="172" text-anchor="middle">([^<]+)</text>', str(svg))
    return sorted((float(x), text) for x, text in found)


@pytest.mark.parametrize(
    "xs",
    [
        [
            0.0001,
            0.0004,
            0.0011,
            0.002,
            0.004,
            0.011,
            0.04,
            0.33,
        ],  # a calibration plot: most points are near 0
        [float(x) for x in range(1, 4)],
        [float(x) for x in range(1, 13)],
        [float(x) for x in range(0, 3000, 7)],
        [5.0],
        [-1e-7, 1e-7],
        [123456.5, 123457.5, 999999.5],
    ],
)
def test_axis_labels_never_overlap(xs):
    labels = x_labels(charts.line_chart("t", {"line": [(x, x) for x in xs]}))
    assert labels
    for (x, text), (next_x, next_text) in zip(labels, labels[1:], strict=False):
        assert next_x - x >= (len(text) + len(next_text)) / 2 * CHARACTER


def test_few_epochs_have_a_label_each():
    labels = x_labels(charts.line_chart("t", {"loss": [(1.0, 0.3), (2.0, 0.2), (3.0, 0.1)]}))
    assert [text for _, text in labels] == ["1", "2", "3"]
