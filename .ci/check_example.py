"""Check the scores that README's first command wrote: every allele, its status, finite numbers."""

import csv
import gzip
import math
import sys

from gexpr.genome.examples import resolve_vcf


def main() -> None:
    """Compare the table named on the command line with the example VCF."""
    with open(sys.argv[1], newline="") as handle:
        rows = list(csv.DictReader(handle, delimiter="\t"))
    with gzip.open(resolve_vcf("example"), "rt") as handle:
        records = [line.split("\t") for line in handle if not line.startswith("#")]
    expected = [(record[0], record[1], record[2], alt) for record in records for alt in record[4].split(",")]
    found = [(row["chrom"], row["pos"], row["id"], row["alt"]) for row in rows]
    assert found == expected, f"{len(found)} rows, expected {len(expected)}, or in another order"
    tracks = list(rows[0])[6:]
    assert tracks, "no track columns"
    effects = 0
    for row in rows:
        prefix, _, kind = row["id"].partition(":")
        status = kind if prefix == "skipped" else "ok"
        assert row["status"] == status, f"{row['id']}: status {row['status']}, expected {status}"
        scores = [float(row[track]) for track in tracks]
        if status == "ok":
            assert all(math.isfinite(score) for score in scores), row
            effects += any(abs(score) > 0.1 for score in scores)
        else:
            assert all(math.isnan(score) for score in scores), row
    assert effects > 10, f"only {effects} alleles change a track by more than 0.1"
    print(f"{len(rows)} alleles in {len(tracks)} tracks as expected, {effects} with an effect above 0.1")


if __name__ == "__main__":
    main()
