from pathlib import Path

import pytest

from gexpr.errors import InputError
from gexpr.genome.contigs import ContigMap, read_aliases


@pytest.mark.parametrize(
    ("names", "chrom", "expected"),
    [
        (["chr1", "1"], "1", "1"),
        (["chr1"], "1", "chr1"),
        (["1"], "chr1", "1"),
        (["Chr1"], "chr1", "Chr1"),
        (["chrM"], "MT", "chrM"),
        (["MT"], "chrM", "MT"),
        (["MT"], "chrMT", "MT"),
        (["M"], "MT", "M"),
        (["chrM"], "Mito", "chrM"),
        (["Mito"], "chrM", "Mito"),
        (["chrM", "MT"], "Mito", None),
        (["chr1"], "2", None),
        (["chr1"], "CM000663.1", None),
        (["chr1"], "", None),
    ],
)
def test_resolve(names: list[str], chrom: str, expected: str | None) -> None:
    assert ContigMap(names).resolve(chrom) == expected


def test_aliases_come_first_and_only_where_the_fasta_has_them() -> None:
    contigs = ContigMap(["chrI", "I"], {"I": "chrI", "NC_1": "chrI", "X": "absent"})
    assert [contigs.resolve(name) for name in ("I", "NC_1", "X", "chrI")] == ["chrI", "chrI", None, "chrI"]
    assert contigs.renamed == {"I": "chrI", "NC_1": "chrI"}


def test_alias_file(tmp_path: Path) -> None:
    path = tmp_path / "aliases.tsv"
    path.write_bytes(b"# VCF\tFASTA\r\nNC_001133.9\tchrI\r\n\r\nNC_001133.9\tchrI\r\n")
    assert read_aliases(path) == {"NC_001133.9": "chrI"}


@pytest.mark.parametrize("text", ["a\tb\nc d\n", "a\tb\nc\td\te\n", "a\tb\na\tc\n", "a\tb\n\tc\n"])
def test_alias_file_errors_name_the_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "aliases.tsv"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        read_aliases(path)
    assert caught.value.line == 2
