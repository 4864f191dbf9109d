"""HTTP for staff and monitors. Imported by assembly only."""
