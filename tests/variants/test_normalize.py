import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gexpr.variants.normalize import left_align, trim

SEQUENCE = st.text("AC", min_size=1, max_size=40)


def normal(sequence: str, start: int, ref: str, alt: str) -> tuple[int, str, str]:
    return left_align(*trim(start, ref, alt), lambda low, high: sequence[low:high])


def haplotype(sequence: str, start: int, ref: str, alt: str) -> str:
    assert sequence[start : start + len(ref)] == ref
    return sequence[:start] + alt + sequence[start + len(ref) :]


def vt_normalize(sequence: str, start: int, ref: str, alt: str) -> tuple[int, str, str]:
    """Algorithm 1 of Tan et al. 2015 with anchored alleles; the anchor is taken off at the end."""
    changed = True
    while changed:
        changed = False
        if ref and alt and ref[-1] == alt[-1]:
            ref, alt, changed = ref[:-1], alt[:-1], True
        if (not ref or not alt) and start > 0:
            start -= 1
            ref, alt, changed = sequence[start] + ref, sequence[start] + alt, True
            if ref[-1] != alt[-1]:
                break
    while ref and alt and ref[0] == alt[0]:
        start, ref, alt = start + 1, ref[1:], alt[1:]
    return start, ref, alt


@pytest.mark.parametrize(
    ("start", "ref", "alt", "expected"),
    [
        (5, "A", "C", (5, "A", "C")),
        (5, "AC", "AG", (6, "C", "G")),
        (5, "ACGT", "ATGT", (6, "C", "T")),
        (5, "ACGT", "TCGA", (5, "ACGT", "TCGA")),
        (5, "A", "ACC", (6, "", "CC")),
        (5, "ACC", "A", (6, "CC", "")),
        (5, "CAA", "CA", (6, "A", "")),
        (5, "CACACA", "CACA", (5, "CA", "")),
        (5, "GCAT", "GTT", (6, "CA", "T")),
        (5, "AC", "AC", (5, "", "")),
        (5, "AAA", "AA", (5, "A", "")),
    ],
)
def test_trim(start: int, ref: str, alt: str, expected: tuple[int, str, str]) -> None:
    assert trim(start, ref, alt) == expected


#            0123456789012345678901
REFERENCE = "GGGCACACACAGGGTTTTTTTC"


@pytest.mark.parametrize(
    ("start", "ref", "alt", "expected"),
    [
        (9, "CA", "", (3, "CA", "")),
        (8, "AC", "", (3, "CA", "")),
        (11, "", "CA", (3, "", "CA")),
        (4, "ACA", "", (4, "ACA", "")),
        (20, "T", "", (14, "T", "")),
        (21, "", "TT", (14, "", "TT")),
        (2, "G", "", (0, "G", "")),
        (0, "G", "", (0, "G", "")),
        (22, "", "C", (21, "", "C")),
        (5, "C", "G", (5, "C", "G")),
        (5, "CA", "G", (5, "CA", "G")),
    ],
)
def test_left_align(start: int, ref: str, alt: str, expected: tuple[int, str, str]) -> None:
    assert left_align(start, ref, alt, lambda low, high: REFERENCE[low:high]) == expected


@st.composite
def variants(draw: st.DrawFn) -> tuple[str, int, str, str]:
    sequence = draw(SEQUENCE)
    start = draw(st.integers(0, len(sequence) - 1))
    end = draw(st.integers(start, len(sequence)))
    return sequence, start, sequence[start:end], draw(st.text("AC", max_size=12))


@settings(deadline=None, max_examples=300)
@given(variants())
def test_same_haplotype_idempotent_and_as_vt(variant: tuple[str, int, str, str]) -> None:
    sequence, start, ref, alt = variant
    done = normal(sequence, start, ref, alt)
    assert haplotype(sequence, *done) == haplotype(sequence, start, ref, alt)
    assert normal(sequence, *done) == done
    if ref != alt:
        assert done == vt_normalize(sequence, start, ref, alt)


@settings(deadline=None, max_examples=300)
@given(variants(), st.integers(0, 10), st.integers(0, 10))
@example(("ACACACAC", 4, "AC", ""), 3, 2)
def test_equivalent_spellings_become_one(variant: tuple[str, int, str, str], left: int, right: int) -> None:
    sequence, start, ref, alt = variant
    if ref == alt:
        return
    left = min(left, start)
    right = min(right, len(sequence) - start - len(ref))
    after = start + len(ref)
    before, behind = sequence[start - left : start], sequence[after : after + right]
    padded = (start - left, before + ref + behind, before + alt + behind)
    assert normal(sequence, *padded) == normal(sequence, start, ref, alt)


@settings(deadline=None, max_examples=300)
@given(variants())
def test_every_place_of_the_same_indel_becomes_one(variant: tuple[str, int, str, str]) -> None:
    sequence, start, ref, alt = variant
    if bool(ref) == bool(alt):
        return
    result = haplotype(sequence, start, ref, alt)
    size = len(ref) or len(alt)
    for other in range(len(sequence) + 1):
        moved = sequence[other : other + size] if ref else result[other : other + size]
        change = (other, moved, "") if ref else (other, "", moved)
        if len(moved) == size and haplotype(sequence, *change) == result:
            assert normal(sequence, *change) == normal(sequence, start, ref, alt)


def test_a_long_repeat_is_crossed_in_few_reads() -> None:
    sequence = "G" + "CA" * 100_000
    reads = []

    def fetch(low: int, high: int) -> str:
        assert 0 <= low < high
        reads.append(high - low)
        return sequence[low:high]

    assert left_align(len(sequence), "", "CA", fetch) == (1, "", "CA")
    assert len(reads) < 20 and sum(reads) == len(sequence)
