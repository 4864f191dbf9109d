"""Use cases, one short function each, over domain and ports only. Imported by assembly and the edges."""
