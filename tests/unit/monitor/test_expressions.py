"""Metric math."""

import pytest

from services.monitor.decisions.expressions import evaluate
from services.shared.errors import AwsError

KNOWN = {"m1": {0.0: 1.0, 60.0: 4.0}, "m2": {60.0: 2.0, 120.0: 8.0}, "e": {0.0: 100.0}, "none": {}}


@pytest.mark.parametrize(
    ("expression", "values"),
    [
        ("m1 / m2 * 100", {60.0: 200.0}),
        ("m1 + 1", {0.0: 2.0, 60.0: 5.0}),
        ("2 ^ m1", {0.0: 2.0, 60.0: 16.0}),
        ("m2 * 3 ^ 2", {60.0: 18.0, 120.0: 72.0}),
        ("-m1", {0.0: -1.0, 60.0: -4.0}),
        ("m1 / 0", {}),
        ("1 / 0", {}),
        ("SUM(m1)", {0.0: 5.0, 60.0: 5.0}),
        ("SUM([m1, m2])", {0.0: 1.0, 60.0: 6.0, 120.0: 8.0}),
        ("AVG(METRICS())", {0.0: 1.0, 60.0: 3.0, 120.0: 8.0}),
        ("MAX([m1, 2 * m2])", {0.0: 1.0, 60.0: 4.0, 120.0: 16.0}),
        ("m1 / MAX(m1)", {0.0: 0.25, 60.0: 1.0}),
        ("FILL(m1, 0)", {0.0: 1.0, 60.0: 4.0, 120.0: 0.0}),
        ("FILL(m1, REPEAT)", {0.0: 1.0, 60.0: 4.0, 120.0: 4.0}),
        ("IF(m1 > 2, m1, 0)", {0.0: 0.0, 60.0: 4.0}),
        ("IF(m1 > 2, 7)", {60.0: 7.0}),
        ("FLOOR(m1 / 3)", {0.0: 0.0, 60.0: 1.0}),
        ("none + m1", {}),
    ],
)
def test_expressions(expression, values):
    assert evaluate(expression, KNOWN, ["m1", "m2", "none"]) == values


@pytest.mark.parametrize(
    "expression",
    ["", "m1 +", "nobody", "m1.x", "__import__('os')", "SEARCH('x')", "[m1, m2]", "m1[0]", "lambda: 1", "SUM()",
     "m1 if m2 else e", f"m1 * 1{'0' * 400}"],
)  # fmt: skip
def test_what_is_not_understood_is_refused(expression):
    with pytest.raises(AwsError, match="Error in expression"):
        evaluate(expression, KNOWN, ["m1", "m2"])
