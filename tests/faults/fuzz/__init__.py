"""Fuzzing of what takes bytes from strangers: mutated inputs by the million, and nothing may come of them."""
