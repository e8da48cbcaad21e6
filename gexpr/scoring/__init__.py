"""From windows to predictions to variant scores. Nothing is imported here, so that names stay cheap."""
