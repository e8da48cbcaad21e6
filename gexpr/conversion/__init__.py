"""Weights that others trained, made into gexpr's checkpoints: tables of names, nothing executed."""
