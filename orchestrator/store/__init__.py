"""Where records, objects and pipeline folders are kept. Imported by assembly only."""
