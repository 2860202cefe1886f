"""Environment files: which lines count, and which of several that name one variable."""

import pytest

from services.agent.decisions.environment_files import joined, read


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("A=1\nB=2\n", {"A": "1", "B": "2"}),
        ("A=1\r\nB=2\r\n", {"A": "1", "B": "2"}),
        ("A=1", {"A": "1"}),
        ("# A=1\n#B=2\nC=#3\n", {"C": "#3"}),
        (' # A="1"\n', {" # A": '"1"'}),
        ("A = 1 \n", {"A ": " 1 "}),
        ("URL=http://a/?b=c&d=e\n", {"URL": "http://a/?b=c&d=e"}),
        ("A='$B ${C}'\n", {"A": "'$B ${C}'"}),
        ("A=1\nA=2\n", {"A": "2"}),
        ("A\n=1\nB=\n\n", {}),
        ("A=1\0\nB=2\n", {"B": "2"}),
        ("UMLAUT=ü\u2028x\n", {"UMLAUT": "ü\u2028x"}),
        ("", {}),
    ],
)
def test_lines_are_taken_as_they_are(text, found):
    assert read(text) == found


def test_of_several_files_the_earlier_one_counts():
    assert joined(["A=1\nB=1\n", "B=2\nC=2\n", "C=3\n"]) == {"A": "1", "B": "1", "C": "2"}
