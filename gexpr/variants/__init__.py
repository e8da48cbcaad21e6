"""VCF and BCF reading, normalization of alleles, their sequences, the scan before a run."""
