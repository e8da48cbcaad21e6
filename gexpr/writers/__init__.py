"""Files of results. The formats are specified in docs/output-files.md."""
