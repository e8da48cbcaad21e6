"""Whole jobs: plan, execute in blocks, publish, summarize."""
