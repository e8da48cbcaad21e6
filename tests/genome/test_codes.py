import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from gexpr.genome.codes import decode, encode, one_hot, reverse_complement


def test_letters_of_both_cases_and_of_both_types() -> None:
    assert encode("ACGTNacgtnRY-*\u00e9").tolist() == [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 4, 4, 4, 4, 4]
    assert encode(b"GATTACA").tolist() == [2, 0, 3, 3, 0, 1, 0]
    assert encode("").shape == (0,) and encode("A").dtype == np.uint8


@settings(deadline=None)
@given(st.text("ACGTN"))
def test_round_trip_and_reverse_complement(text: str) -> None:
    assert decode(encode(text)) == text
    expected = text[::-1].translate(str.maketrans("ACGT", "TGCA"))
    assert decode(reverse_complement(encode(text))) == expected


def test_reverse_complement_is_along_the_last_axis() -> None:
    codes = np.array([[0, 1, 4], [3, 3, 2]], dtype=np.uint8)
    assert reverse_complement(codes).tolist() == [[4, 2, 3], [1, 0, 0]]


def test_one_hot_order_and_zeros() -> None:
    rows = one_hot(encode("ACGTN"))
    assert rows.dtype == np.float32
    assert rows.tolist() == [*np.eye(4).tolist(), [0, 0, 0, 0]]
