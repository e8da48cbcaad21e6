"""Sequences and intervals: FASTA, codes, contig names, BED, windows. No models, no variants."""
